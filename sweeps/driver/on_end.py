"""`--on-end COMMAND`: a command of the user's, run where the driver runs, that is told how the study ended."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from svgan import termination
from svgan.errors import UserError, one_line
from svgan.metrics.names import FVD_LONG, FVD_SHORT, LATENT_FD
from sweeps.driver.flags import resume_command
from sweeps.reports.trial_table import Row, rows_of, rows_of_record
from sweeps.storage.tag_names import ROLE, SWEEP
from sweeps.storage.usage import BudgetSpent

if TYPE_CHECKING:
    from sweeps.driver.budget import BudgetCallback
    from sweeps.promotion.registry import Promotion
    from sweeps.storage.plan import Plan

FORMAT = 1
LIMIT = 60.0  # seconds; a mail, a web hook or sbatch takes a few, and whoever sent SIGTERM kills before long
FINISHED, HALTED, FAILED, SPENT = "finished", "halted", "failed", "budget spent"


class Ending:
    """What became of a study. The driver sets `budget` once the study has begun, and `promotion` if there was one.

    budget: None for a study that was refused, of which nobody is told.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.budget: BudgetCallback | None = None
        self.promotion: Promotion | None = None
        self.error: BaseException | None = None

    def exit_code(self) -> int:
        match self.error:
            case None:
                return 0
            case UserError():
                return 2
            case BudgetSpent():
                return 3
            case KeyboardInterrupt():
                return termination.exit_code(self.error)
        return 1

    def outcome(self, rows: list[Row]) -> str:
        """finished; budget spent; halted: `--resume` goes on; failed: of an error, or no trial finished and some
        failed.
        """
        if self.error is None:
            return FINISHED
        if isinstance(self.error, BudgetSpent):
            return SPENT
        states = {row.status for row in rows}
        hopeless = "failed" in states and "finished" not in states
        stopped = isinstance(self.error, KeyboardInterrupt)
        return HALTED if stopped or (isinstance(self.error, UserError) and not hopeless) else FAILED

    def reason(self) -> str:
        """One line; '' for a study that finished."""
        if self.error is None:
            return ""
        if isinstance(self.error, KeyboardInterrupt):
            return termination.described(self.error)
        known = isinstance(self.error, UserError | BudgetSpent)
        return one_line(self.error if known else f"{type(self.error).__name__}: {self.error}", 500)

    def to_json(self, budget: BudgetCallback) -> dict[str, Any]:
        """What the command is told (docs/studies.md has the fields). While MLflow is away, figures are the record's."""
        rows, page = known_of(self.plan)
        plan, outcome, promotion = self.plan, self.outcome(rows), self.promotion
        states = [row.status for row in rows]
        return {
            "format": FORMAT,
            "study": plan.study,
            "name": plan.name,
            "outcome": outcome,
            "exit_code": self.exit_code(),
            "reason": self.reason(),
            "resume": None if outcome == FINISHED else resume_command(plan),
            "hours": budget.hours(),
            "used": budget.figures(),
            "asked": plan.search.trials,
            "trials": {state: states.count(state) for state in dict.fromkeys(states)},
            "best": best(rows),
            "promotion": promotion and dataclasses.asdict(promotion) | {FVD_LONG: finite(promotion.fvd_long)},
            "links": {
                "run": page,
                "tracking": plan.output.tracking,
                "storage": plan.output.storage,
                "folder": plan.output.folder,
            },
        }


@contextlib.contextmanager
def afterwards(plan: Plan) -> Iterator[Ending]:
    """Run --on-end after the block, if the study had begun. What the block raises is raised on."""
    ending = Ending(plan)
    try:
        yield ending
    except BaseException as error:
        ending.error = error
        raise
    finally:
        if plan.output.on_end and ending.budget is not None and (why := _run(ending, ending.budget)):
            print(f"warning: --on-end {one_line(plan.output.on_end, 100)}: {why}", file=sys.stderr, flush=True)


def _run(ending: Ending, budget: BudgetCallback) -> str:
    try:
        return run(ending.plan.output.on_end, ending.to_json(budget))
    except Exception as error:  # whatever it is, it must not change how the study ended
        return one_line(f"{type(error).__name__}: {error}")


def run(command: str, told: Mapping[str, Any], limit: float = LIMIT) -> str:
    """Run the command by /bin/sh with the JSON on its standard input; return why it failed, '' if it did not.

    It has a session of its own, so Ctrl-C and signals to the driver's group do not reach it. What it leaves in the
    background may live on. After `limit` seconds it is killed with all that it started.
    """
    process = subprocess.Popen(command, shell=True, text=True, stdin=subprocess.PIPE, start_new_session=True)
    try:
        process.communicate(json.dumps(told, allow_nan=False) + "\n", timeout=limit)
    except subprocess.TimeoutExpired:
        return f"killed, for it had not ended after {limit:g} s; let it put what takes longer in the background"
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"it ended with exit code {process.returncode}" if process.returncode else ""


def known_of(plan: Plan) -> tuple[list[Row], str | None]:
    """The trials, from MLflow, else from the study's record, else none; and the page or id of the study's run."""
    from sweeps.search.optuna_store import open_study
    from sweeps.tracking.client import Tracking
    from sweeps.tracking.sender import failures

    with contextlib.suppress(*failures(), UserError):
        tracking = Tracking(plan)
        run = tracking.find(**{SWEEP: plan.name, ROLE: "study"})
        return rows_of(tracking.runs(), alive=False), tracking.page(run) if run else None
    with contextlib.suppress(UserError):
        return rows_of_record(open_study(plan).get_trials(deepcopy=False), plan, alive=False), None
    return [], None


def best(rows: list[Row]) -> dict[str, Any] | None:
    """The finished trial with the lowest latent FD, of all trials if none has finished."""
    judged = [row for row in rows if row.latent_fd is not None and math.isfinite(row.latent_fd)]
    judged = [row for row in judged if row.status == "finished"] or judged
    if not judged:
        return None
    row = min(judged, key=lambda one: one.latent_fd or 0.0)
    figures = {name: finite(getattr(row, name)) for name in (LATENT_FD, FVD_SHORT, FVD_LONG)}
    return {"trial": row.number, "status": row.status, "step": row.step, **figures, "config": row.config}


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
