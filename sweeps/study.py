"""The face of the studies: what a study file imports.

A study file is short: a header with command, cost and the number to expect, a search space, a `Study`, and
`main(STUDY)`.
"""

from svgan.metrics.names import FVD_LONG, FVD_SHORT, LATENT_FD
from sweeps.driver.definition import Study
from sweeps.driver.run import main, run

__all__ = ["FVD_LONG", "FVD_SHORT", "LATENT_FD", "Study", "main", "run"]
