"""`python -m sweeps sync NAME`."""

from __future__ import annotations

import argparse

HELP = "send MLflow what was kept in the study's folder while it was away"
ABOUT = """Send what a study could not write to MLflow, each write once.

  python -m sweeps sync gap-1
  python -m sweeps sync gap-1 --tracking http://mlflow:5000        the server has another address now

While MLflow is away, training goes on and its metrics and artifacts are kept in STORAGE/NAME/outbox; the driver sends
them when the server is back, or at the study's end. This is for one that never came back until then. It says how many
writes were sent and how many are left, and exits with 1 where some are.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the study")


def run(asked: argparse.Namespace) -> int:
    from svgan.bars import plain_console
    from sweeps import outbox, trial_log
    from sweeps.commands import where

    plan = where.folder_plan(asked, asked.name)
    waiting = sum(outbox.waiting(plan).values())
    if not waiting:
        print(f"{plan.name}: nothing waits to be sent")
        return 0
    console = plain_console()
    with console.status(f"{plan.name}: sending {waiting} writes to {plan.tracking}"):
        sent, left = trial_log.sync(plan)
    print(f"{plan.name}: {sent} writes sent, {left} left" + (f" in {plan.storage}/{plan.name}/outbox" if left else ""))
    return 1 if left else 0
