"""Train, save and resume any system.

The loop, its state, checkpoints and reports. No system is named here.
"""
