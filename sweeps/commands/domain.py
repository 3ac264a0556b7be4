"""`python -m sweeps domain VIDEO`."""

from __future__ import annotations

import argparse
from pathlib import Path

from sweeps.commands import find_study

HELP = "log a domain's frames beside their reconstructions"
ABOUT = """Embed held-out frames of a domain's footage, render them again, and log the figures, with a picture of
frames above their reconstructions. The picture shows footage, so it goes to your MLflow and nowhere else.

  python -m sweeps domain me.mp4 --domain my_domain

Cost: about a minute on one core, and once per video 30 to 80 ms per frame for the landmarks.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("footage", type=Path, metavar="VIDEO", help="the domain's footage (svgan assets talking-face)")
    parser.add_argument("--domain", default="default", metavar="DIR", help="a domain's folder [%(default)s]")
    find_study.add_flags(parser)


def run(asked: argparse.Namespace) -> None:
    from svgan.images.domain import Domain
    from svgan.reports.progress import Stages, bars, plain_console
    from sweeps.tracking.client import open_experiment
    from sweeps.tracking.domain_run import log_domain

    made = Domain.load(asked.domain)
    client, experiment = open_experiment(find_study.tracking_uri(asked), asked.experiment or find_study.EXPERIMENT)
    with bars(plain_console()) as progress:
        logged, figures = log_domain(client, experiment, made, asked.footage, progress=Stages(progress))
    for name, value in figures.items():
        print(f"{name:12} {value:.3f}")
    print(f"MLflow run {logged}")
