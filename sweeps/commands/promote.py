"""`python -m sweeps promote NAME`."""

from __future__ import annotations

import argparse
import dataclasses

from sweeps.commands import where

HELP = "make a study's best checkpoint the champion"
ABOUT = """Choose the study's best checkpoint and make it the champion if its FVD is lower.

  python -m sweeps promote gap-1
  python -m sweeps promote gap-1 --model svgan-trial     under a name of its own

Candidates are the models logged by all trials, stopped ones included. The lowest FVD long (against W+) wins; a
checkpoint with the lowest latent FD but no FVD is scored first. The champion is replaced only by a lower FVD long
under the same protocol; else this says by how much it fell short. Load it anywhere with

  mlflow.pyfunc.load_model("models:/MODEL@champion").predict({"clips": 1, "frames": 250, "seed": 0})
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the study")
    parser.add_argument("--model", metavar="MODEL", help="registered model [the study's: svgan-DOMAIN]")
    where.add_flags(parser)


def run(asked: argparse.Namespace) -> None:
    from sweeps import registry

    plan = where.find_plan(asked, asked.name)
    if asked.model:
        plan = dataclasses.replace(plan, model=asked.model)
    print(registry.promote(where.open_tracking(plan), plan).message)
