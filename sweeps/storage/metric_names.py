"""The names of figures that only studies have. Each stands here and nowhere else.

`svgan.metrics.names` has the others.
"""

LATENT_FD_BEST = "latent_fd_best"
STEPS_DONE, BEST_STEP = "steps_done", "best_step"
SECONDS_SCORING = "seconds_scoring"
CORE_HOURS, GPU_HOURS = "core_hours", "gpu_hours"
