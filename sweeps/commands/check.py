"""`python -m sweeps check NAME [--repair]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeps.commands import find_study

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan
    from sweeps.tracking.reconcile import Comparison, Disagreement, Driver

HELP = "whether MLflow, Optuna and checkpoints agree with a study's record; --repair mends it"
ABOUT = """Compare a study's record with MLflow, Optuna's storage and the checkpoints, and list every disagreement.

  python -m sweeps check gap-1                 only look; exit code 1 if something disagrees
  python -m sweeps check gap-1 --repair        mend it; exit code 1 if something is left

The record says how each trial ended; MLflow follows. If a process dies between its two writes, they disagree. Listed
are open runs of trials that have ended, other outcomes, trials without a run or with two, and runs without a trial.
So are models that are there twice or in part, writes that wait in the outbox, and a study that is RUNNING though no
driver lives. A report or state that Optuna's storage lacks is listed, and checkpoints of no recorded trial.
A driver mends what it finds in MLflow and Optuna when it begins and when it ends, so --resume does it too.

--repair deletes unfinished models, and the second of two models of one step after copying its figures; never a
registered model. A run that counts to no trial is set aside and stays visible in MLflow. While a driver runs the study,
only ended trials are compared, and --repair is refused.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the study's name")
    parser.add_argument("--repair", action="store_true", help="mend what disagrees; no driver may run the study")
    find_study.add_flags(parser)


def run(asked: argparse.Namespace) -> int:
    from sweeps.storage import driver_lease, driver_lock

    plan = find_study.folder_plan(asked, asked.name)
    if asked.repair:
        driver_lease.check(plan)
        with driver_lock.hold(plan):
            return repair(plan)
    return look(plan)


def look(plan: Plan) -> int:
    from sweeps.storage import driver_lease, driver_lock

    alive = driver_lock.holder(plan) if driver_lock.is_held(plan) else driver_lease.elsewhere(plan)
    if alive:
        print(f"{alive} runs it, so only trials that have ended are compared")
    found = [one for each in comparisons(plan, "another process" if alive else "none") for one in each.find()]
    for one in found:
        print(f"{one}\n  --repair: {one.remedy}")
    if not found:
        print(agreed(plan))
    elif not alive:
        print(f"{counted(found)}; mend with: python -m sweeps check {plan.name} --repair")
    return 1 if found else 0


def repair(plan: Plan) -> int:
    from sweeps.tracking import reconcile

    mended, left = reconcile.settle(comparisons(plan, "none"))
    for one in mended:
        print(f"{one}\n  done: {one.remedy}")
    for one in left:
        print(f"{one}\n  left: this did not mend it: {one.remedy}")
    print(f"{counted(left)} left" if left else agreed(plan))
    return 1 if left else 0


def comparisons(plan: Plan, driver: Driver) -> list[Comparison]:
    """Everything that must agree with the study's record."""
    from sweeps.commands.check_storage import folder_comparison, optuna_comparison
    from sweeps.record.endings import endings, reasons
    from sweeps.search.optuna_store import read_record
    from sweeps.tracking.mlflow_state import comparison

    state = read_record(plan)
    tracking = find_study.open_tracking(plan)
    found = [comparison(plan, tracking, endings(state), driver, reasons(state))]
    if driver == "none":  # a driver's trials are on their way to these
        found += [optuna_comparison(plan, state), folder_comparison(plan, state)]
    return found


def agreed(plan: Plan) -> str:
    return f"{plan.name}: MLflow, Optuna and the checkpoints agree with the study's record"


def counted(found: Sequence[Disagreement]) -> str:
    return f"{len(found)} disagreement{'s' if len(found) != 1 else ''}"
