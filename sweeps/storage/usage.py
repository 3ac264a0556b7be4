"""What a study uses: hours of its workers' GPUs and cores, counted while the workers hold them.

Rank 0 counts from its worker's start, and keeps the count of each start beside the study. So work that was lost with a
killed worker or an earlier driver counts too. Waiting for a node costs nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from svgan.errors import UserError
from svgan.io import storage
from sweeps.storage import study_files
from sweeps.storage.metric_names import CORE_HOURS, GPU_HOURS

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

FOLDER, SECONDS = "usage", "worker_seconds"


class BudgetSpent(Exception):
    """--max-gpu-hours or --max-hours is used up before the study has ended. The message says how to continue."""


def figures(plan: Plan, seconds: float) -> dict[str, float]:
    """What a trial's workers used in this many seconds, as MLflow logs it; GPU-hours if it has GPUs."""
    hours = seconds * plan.compute.workers / 3600
    used = {CORE_HOURS: hours * plan.compute.cpus_per_worker}
    return used | ({GPU_HOURS: hours * plan.compute.gpus_per_worker} if plan.compute.gpus_per_worker else {})


def counted(plan: Plan, seconds: float) -> float:
    """What counts towards the budget: GPU-hours, or core-hours if the study's trials have no GPU."""
    used = figures(plan, seconds)
    return used.get(GPU_HOURS, used[CORE_HOURS])


def describe(plan: Plan, amount: float) -> str:
    return f"{amount:.3g} {'GPU' if plan.compute.gpus_per_worker else 'core'}-hours"


class Meter:
    """Rank 0's clock of a trial: the seconds that its workers ran, earlier starts included."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.folder, self.began = _folder(plan, number), time.monotonic()
        self.own, self.before = f"{time.time_ns():020d}", -1.0  # not looked up yet

    def seconds_so_far(self) -> dict[str, float]:
        """The trial's seconds so far, for Tune. Also written beside the study, if the storage can be written."""
        total, here = self.seconds(), time.monotonic() - self.began
        with contextlib.suppress(*storage.ERRORS):
            storage.write(f"{self.folder}/{self.own}", f"{here:.3f}".encode())
        return {SECONDS: total}

    def seconds(self) -> float:
        """The trial's seconds so far. Those of earlier starts are read once; they are missing while that fails."""
        if self.before < 0:
            with contextlib.suppress(*storage.ERRORS):
                self.before = sum(seconds for start, seconds in _read(self.folder).items() if start != self.own)
        return max(0.0, self.before) + time.monotonic() - self.began


def recall(plan: Plan) -> dict[int, float]:
    """The seconds that each trial has used so far, as its workers recorded them."""
    numbers = [name for name in storage.names(study_files.place(plan, FOLDER)) if name.isdigit()]
    return {int(name): sum(_read(_folder(plan, int(name))).values()) for name in numbers}


def _folder(plan: Plan, number: int) -> str:
    return study_files.place(plan, FOLDER, f"{number:06d}")


def _read(folder: str) -> dict[str, float]:
    return {name: float(storage.read(f"{folder}/{name}") or 0) for name in storage.names(folder)}


def check_budget(plan: Plan, used: Mapping[int, float]) -> None:
    """Raises UserError if the study has used up its budget."""
    total = counted(plan, sum(used.values()))
    if plan.compute.max_gpu_hours is not None and total >= plan.compute.max_gpu_hours:
        raise UserError(
            f"--max-gpu-hours {plan.compute.max_gpu_hours:g}: {plan.name} has used {describe(plan, total)} by now; "
            "resume it with a larger one"
        )
