"""Which trial comes next, and which is pruned?

Optuna's store, Tune's searcher over it, ASHA and grids.
"""
