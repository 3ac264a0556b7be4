"""`python -m sweeps sync NAME`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from svgan.errors import UserError
from sweeps.commands import find_study

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

HELP = "send MLflow the writes that waited while it was away"
ABOUT = """Send what a study could not write to MLflow, each write once.

  python -m sweeps sync gap-1
  python -m sweeps sync gap-1 --tracking http://mlflow:5000        the server has another address now

While MLflow is away, training goes on, and metrics and artifacts are kept in STORAGE/NAME/outbox. The driver sends them
when the server is back, or at the study's end. Use this command if the server came back later than that. It prints how
many writes were sent and how many are left, and exits with 1 if some are left. Once all are sent, a study whose trials
have ended gets its plots, its promotion and its final status.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the study's name")
    find_study.add_flags(parser)


def run(asked: argparse.Namespace) -> int:
    from svgan.reports.progress import plain_console
    from sweeps.tracking import outbox, trial_log

    plan = find_study.folder_plan(asked, asked.name)
    waiting = sum(outbox.waiting(plan).values())
    if not waiting:
        print(f"{plan.name}: nothing waits to be sent")
        end(plan)
        return 0
    console = plain_console()
    with console.status(f"{plan.name}: sending {waiting} writes to {plan.output.tracking}"):
        sent, left = trial_log.sync(plan)
    print(
        f"{plan.name}: {sent} writes sent, {left} left"
        + (f" in {plan.output.storage}/{plan.name}/outbox" if left else "")
    )
    if left:
        return 1
    end(plan)
    return 0


def end(plan: Plan) -> None:
    """Conclude a study whose trials have ended, if MLflow does not know: plots, promotion and final status."""
    from sweeps.driver.conclude import conclude
    from sweeps.search import optuna_store
    from sweeps.storage import driver_lock
    from sweeps.tracking.client import Tracking

    if driver_lock.is_held(plan):
        return
    try:
        record = optuna_store.open_study(plan)
    except UserError:  # no record of Optuna here: nobody can tell whether it is over
        return
    trials, tracking = record.get_trials(deepcopy=False), Tracking(plan)
    over = len(trials) >= plan.search.trials and all(trial.state.is_finished() for trial in trials)
    if over and tracking.client.get_run(tracking.parent_id()).info.status != "FINISHED":
        conclude(plan)
        tracking.close("FINISHED")
