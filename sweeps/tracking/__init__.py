"""What does MLflow remember of a study?

The client, a trial's log, and the outbox for writes that must wait.
"""
