"""How are many runs searched, tracked and promoted? A study is a file, a trial is a Ray Train run inside Ray Tune, and
a champion is a model in MLflow.

Read `study` first, then `driver` (a study from flags to champion), `search` (what is proposed and pruned), `trial`,
`tracking` and `promotion` (MLflow).
"""

import svgan.systems  # noqa: F401  (registers them in the driver, in every worker and where a champion is loaded)
