"""The face of the studies: what a study file imports.

A study file is short: a header with command, cost and the number to expect, a search space, a `Study`, and
`main(STUDY)`.
"""

from sweeps.driver.definition import Study
from sweeps.driver.run import main, run

__all__ = ["Study", "main", "run"]
