"""The names of figures, as reports, MLflow and JSON have them. Each stands here and nowhere else.

`Protocol.figure` composes an FVD's name from its protocol: fvd_short, fvd_long, or fvd/PROTOCOL.
"""

LATENT_FD = "latent_fd"
ITERATIONS_PER_SECOND = "iterations_per_second"
FVD_SHORT, FVD_LONG = "fvd_short", "fvd_long"
FVD_SHORT_ORIGINAL, FVD_LONG_ORIGINAL = "fvd_short_original", "fvd_long_original"
FID_SHORT, FID_LONG = "fid_short", "fid_long"
ACD = "acd"
ARCFACE_WITHIN = "arcface_within"
LOOPS_REPEAT, LOOPS_RECURRENCE, LOOPS_STILL = "loops/repeat", "loops/recurrence", "loops/still"
LOOPS_NORM_DRIFT, LOOPS_SPEED, LOOPS_SPECTRUM = "loops/norm_drift", "loops/speed", "loops/spectrum"
LOOPS_PHI = "loops/phi"
