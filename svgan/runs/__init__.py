"""What is in a run's folder, and how does it become a model again?

Checkpoints are found, loaded and validated here.
"""

import svgan.systems  # noqa: F401  (registers those that a run can be of)
