"""Print svgan's dependencies without svgan: on a cluster its code comes with each job, or is in the image."""

import tomllib
from pathlib import Path

project = tomllib.loads(Path(__file__).resolve().parent.parent.joinpath("pyproject.toml").read_text())["project"]
print(*project["dependencies"], sep="\n")
