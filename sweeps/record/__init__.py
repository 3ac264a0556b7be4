"""What was decided in a study?

The record, an append-only log in the study's storage, and the core that decides by it. Ray, Optuna and MLflow follow.
"""
