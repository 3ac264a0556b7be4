"""What does a study's user look at?

Tables and plots of its trials.
"""
