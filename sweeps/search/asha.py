"""ASHA, the asynchronous successive halving algorithm: which trials are pruned at a rung."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweeps.search.optuna_store import CONTROL, STEP, reports
from sweeps.storage.trial_outcome import how_it_ended


class ASHA(FIFOScheduler):
    """Asynchronous successive halving (Li et al. 2020) over a trial's own `step`. Controls are never pruned.

    At each rung, a trial continues if its value is among the best 1/reduction of all that reached the rung, itself
    included; at least one continues. Values are running minima, because those of a GAN are not monotone. `recall` fills
    the rungs from Optuna's record, so that a resumed study decides as the first driver would have.
    """

    def __init__(self, *, metric: str, rungs: Sequence[int], reduction: int) -> None:
        super().__init__()
        self.value, self.reduction = metric, reduction
        self.recorded: dict[int, dict[int, float]] = {rung: {} for rung in sorted(rungs)}
        self.ranked: dict[int, list[float]] = {rung: [] for rung in self.recorded}

    def recall(self, trials: Sequence[FrozenTrial]) -> None:
        for trial in trials:
            for rung in self.recorded:
                reached = [value for step, value in sorted(reports(trial).items()) if step >= rung]
                if reached:
                    self._record(rung, trial.number, reached[0])

    def goes_on(self, number: int, step: int, value: float) -> bool:
        """Record the value at every rung newly reached; return whether it is good enough at the highest of them."""
        new = [rung for rung, recorded in self.recorded.items() if step >= rung and number not in recorded]
        for rung in new:
            self._record(rung, number, value)
        if not new:
            return True
        ranked = self.ranked[new[-1]]
        return value <= ranked[max(1, len(ranked) // self.reduction) - 1]

    def _record(self, rung: int, number: int, value: float) -> None:
        self.recorded[rung][number] = value
        bisect.insort(self.ranked[rung], value)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        value, step = result.get(self.value), result.get(STEP)
        if value is None or step is None or not math.isfinite(value) or how_it_ended(result) != "pruned":
            return TrialScheduler.CONTINUE
        good = self.goes_on(trial.config["number"], int(step), value)
        return TrialScheduler.CONTINUE if good or trial.config[CONTROL] else TrialScheduler.STOP

    def debug_string(self) -> str:
        return (
            f"successive halving: { ({rung: len(seen) for rung, seen in self.recorded.items()}) } trials at the rungs"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {}
