"""`python -m sweeps promote NAME`."""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial

from sweeps.commands import spread, where

HELP = "make a study's best checkpoint the champion"
ABOUT = """Choose the study's best checkpoint and make it the champion if its FVD is lower.

  python -m sweeps promote gap-1
  python -m sweeps promote gap-1 --model svgan-trial     under a name of its own
  python -m sweeps promote gap-1 --promotion-clips 2048 --promotion-seeds 3 --workers 16     the best three judged again

Candidates are the models logged by all trials, stopped ones included. The lowest FVD long (against W+) wins; a
checkpoint with the lowest latent FD but no FVD is scored first. The champion is replaced only by a lower FVD long
under the same protocol; else this says by how much it fell short. With --promotion-clips or --promotion-seeds,
given here or to the study, the best three models and the champion are measured on so many clips of so many generation
seeds first, and the lowest mean wins; what was measured stays in MLflow. Cost: 0.1 to 1 s a clip and core.
Load it anywhere with

  mlflow.pyfunc.load_model("models:/MODEL@champion").predict({"clips": 1, "frames": 250, "seed": 0})
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the study")
    parser.add_argument("--model", metavar="MODEL", help="registered model [the study's: svgan-DOMAIN]")
    parser.add_argument("--promotion-clips", type=int, metavar="N", help="for the final judgement [the study's]")
    parser.add_argument("--promotion-seeds", type=int, metavar="K", help="of generation [the study's]")
    spread.add_flag(parser)
    where.add_flags(parser)


def run(asked: argparse.Namespace) -> int | None:
    from sweeps.promotion import registry

    if spread.as_job(asked):
        return spread.submitted("promote")
    plan = where.find_plan(asked, asked.name)
    given = {"model": asked.model, "promotion_clips": asked.promotion_clips, "promotion_seeds": asked.promotion_seeds}
    plan = dataclasses.replace(plan, **{name: value for name, value in given.items() if value is not None})
    tracking = where.open_tracking(plan)
    with spread.workers(asked):
        print(registry.promote(tracking, plan, partial(spread.feature_pool, asked, plan)).message)
    return None
