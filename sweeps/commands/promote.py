"""`python -m sweeps promote NAME`."""

from __future__ import annotations

import argparse
import contextlib
from functools import partial

from sweeps.commands import find_study, workers_flag

HELP = "make a study's best checkpoint the champion"
ABOUT = """Choose the study's best checkpoint, and make it the champion if its FVD is lower.

  python -m sweeps promote gap-1
  python -m sweeps promote gap-1 --model svgan-trial     under a name of its own
  python -m sweeps promote gap-1 --promotion-clips 2048 --promotion-seeds 3 --workers 16     a final evaluation first

Candidates are the models of all trials, pruned ones included. The lowest FVD long (against W+) wins. If the checkpoint
with the lowest latent FD has no FVD, it is measured first. Only a lower FVD long under the same protocol replaces the
champion; otherwise the command prints the difference.

--promotion-clips and --promotion-seeds, given here or to the study, ask for a final evaluation. It measures the best
three models and the champion on that many clips of each generation seed, and the lowest mean wins. MLflow keeps the
values. Cost: 0.1 to 1 s per clip and core.

Load the champion anywhere with

  mlflow.pyfunc.load_model("models:/MODEL@champion").predict({"clips": 1, "frames": 250, "seed": 0})
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the study's name")
    parser.add_argument("--model", metavar="MODEL", help="registered model [the study's: svgan-DOMAIN]")
    parser.add_argument("--promotion-clips", type=int, metavar="N", help="clips of the final evaluation [the study's]")
    parser.add_argument(
        "--promotion-seeds", type=int, metavar="K", help="generation seeds of the final evaluation [the study's]"
    )
    workers_flag.add_flag(parser)
    find_study.add_flags(parser)


def run(asked: argparse.Namespace) -> int | None:
    from svgan.io import storage
    from sweeps.promotion import registry
    from sweeps.storage import life

    if workers_flag.as_job(asked):
        return workers_flag.submitted("promote")
    plan = find_study.find_plan(asked, asked.name)
    given = {"model": asked.model, "promotion_clips": asked.promotion_clips, "promotion_seeds": asked.promotion_seeds}
    plan = plan.with_fields(**{name: value for name, value in given.items() if value is not None})
    tracking = find_study.open_tracking(plan)
    try:
        with workers_flag.workers(asked):
            print(registry.promote(tracking, plan, partial(workers_flag.feature_pool, asked, plan)).message)
    finally:
        with contextlib.suppress(*storage.ERRORS):
            life.forget(plan, None)
    return None
