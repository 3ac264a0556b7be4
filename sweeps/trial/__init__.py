"""How does one trial run?

The Tune controller, its Ray Train workers, their reports and artifacts.
"""
