"""The names of tags on runs and models in MLflow. Each stands here and nowhere else."""

SWEEP, ROLE, TRIAL, STEP, OUTCOME = "svgan.sweep", "svgan.role", "svgan.trial", "svgan.step", "svgan.outcome"
PARETO, SEED = "svgan.pareto", "svgan.seed"
PROTOCOL_SHORT, PROTOCOL_LONG = "protocol.short", "protocol.long"
