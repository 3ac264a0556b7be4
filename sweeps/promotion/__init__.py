"""Which model becomes the champion?

Finalists are evaluated, and the best is registered in MLflow.
"""
