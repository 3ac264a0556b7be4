"""What must driver, trials and workers agree on?

The plan, paths, study files, events and outcomes.
"""
