"""How is any system trained, kept and resumed?

The loop, its state, checkpoints and reports; no system is named here.
"""
