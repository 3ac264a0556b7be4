"""The study's budget: the driver sums what trials use as their reports come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from sweeps.storage import stop_request
from sweeps.storage.usage import SECONDS, counted, describe, figures

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from sweeps.storage.plan import Plan


class BudgetCallback(Callback):
    """A Tune callback that sums what all trials use, and requests a clean stop when the budget is reached.

    Between reports, a running trial counts by the clock, but no longer than the longest time between two reports so
    far: it may be waiting for a node.
    """

    def __init__(self, plan: Plan, used: Mapping[int, float]) -> None:
        self.plan, self.used = plan, dict(used)
        self.running: dict[int, float] = {}  # when its last report came
        self.longest = 0.0
        self.spent = False

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
        budget = self.plan.compute.max_gpu_hours
        if budget is not None and not self.spent and self.total() >= budget:
            self.spent = True
            print(f"{self.line()}: running trials keep their state, no other is begun", flush=True)
            stop_request.request(self.plan)

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
        return f"--max-gpu-hours {self.plan.compute.max_gpu_hours:g}: used up ({describe(self.plan, self.total())})"

    def __getstate__(self) -> dict[str, Any]:
        return {}
