"""The study's limits: GPU-hours of its trials, which the driver sums as their reports come, and hours of the driver."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from sweeps.driver.flags import resume_command
from sweeps.storage import stop_request
from sweeps.storage.usage import SECONDS, BudgetSpent, counted, describe, figures

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from sweeps.storage.plan import Plan


class BudgetCallback(Callback):
    """A Tune callback that sums what all trials use, and requests a clean stop when --max-gpu-hours or --max-hours is
    reached.

    Between reports, a running trial counts by the clock, but no longer than the longest time between two reports so
    far: it may be waiting for a node.

    began: when the hours of this driver began, by `time.monotonic`; now by default.
    """

    def __init__(self, plan: Plan, used: Mapping[int, float], began: float | None = None) -> None:
        self.plan, self.used = plan, dict(used)
        self.began = time.monotonic() if began is None else began
        self.running: dict[int, float] = {}  # when its last report came
        self.longest = 0.0
        self.spent = ""  # the flag of the limit that was reached

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        number = trial.config["number"]
        if SECONDS in result:
            before, self.used[number] = self.used.get(number, 0.0), float(result[SECONDS])
            self.longest = max(self.longest, self.used[number] - before)
            self.running[number] = time.monotonic()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.on_trial_result(iteration, trials, trial, trial.last_result or {})
        self.running.pop(trial.config["number"], None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if not self.spent and (limit := self.reached()):
            self.spent = limit
            print(f"{self.line()}: running trials keep their state, no other is begun", flush=True)
            stop_request.request(self.plan)

    def reached(self) -> str:
        """The flag of a limit that is used up; '' if there is none."""
        asked = self.plan.compute
        if asked.max_gpu_hours is not None and self.total() >= asked.max_gpu_hours:
            return "--max-gpu-hours"
        return "--max-hours" if asked.max_hours is not None and self.hours() >= asked.max_hours else ""

    def hours(self) -> float:
        """Hours of this driver so far. Those of earlier drivers do not count."""
        return (time.monotonic() - self.began) / 3600

    def total(self) -> float:
        """What counts towards the budget so far."""
        now = time.monotonic()
        since = sum(min(now - last, self.longest) for last in self.running.values())
        return counted(self.plan, sum(self.used.values()) + since)

    def figures(self, number: int | None = None) -> dict[str, float]:
        """What a trial, or the whole study, has used by its last report."""
        seconds = sum(self.used.values()) if number is None else self.used.get(number, 0.0)
        return figures(self.plan, seconds) if seconds else {}

    def line(self) -> str:
        """Which limit is used up, and how much was used."""
        if self.spent == "--max-hours":
            return f"--max-hours {self.plan.compute.max_hours:g}: used up ({self.hours():.3g} hours of this command)"
        return f"--max-gpu-hours {self.plan.compute.max_gpu_hours:g}: used up ({describe(self.plan, self.total())})"

    def error(self) -> BudgetSpent:
        """The end of a study whose limit was reached before its trials had ended, with the command to go on."""
        again = resume_command(self.plan)
        if self.spent == "--max-hours":
            return BudgetSpent(f"{self.line()}; go on with as many hours more: {again}")
        return BudgetSpent(f"{self.line()}; go on with a larger one: {again} --max-gpu-hours X")

    def __getstate__(self) -> dict[str, Any]:
        return {}
