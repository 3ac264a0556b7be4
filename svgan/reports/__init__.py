"""What does a user read after a run?

Evaluation tables, the HTML page with its plots, and progress bars.
"""
