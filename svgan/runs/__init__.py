"""What is in a run's folder, and how does it become a model again?

Checkpoints are found, loaded and validated here.
"""
