"""End a study in which nothing happens, or whose first trials all fail, with the reason in one line."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from svgan.errors import UserError
from sweeps.ray_runtime.resources import SLOT
from sweeps.storage.trial_failure import failure
from sweeps.storage.trial_outcome import how_it_ended

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

log = logging.getLogger(__name__)


class StallLimit(Callback):
    """A Tune callback that ends a study which cannot succeed: `failures` failed trials before any finished, or `limit`
    seconds without an event.

    After `patience` seconds without a result, start or end, it prints once what the study waits for. It raises
    UserError out of `Tuner.fit`, so that a study always ends with a reason.
    """

    def __init__(self, patience: float = 300.0, limit: float = 3600.0, failures: int = 3) -> None:
        self.patience, self.limit, self.failures = patience, limit, failures
        self.last, self.warned = time.monotonic(), False
        self.failed, self.finished = 0, 0
        self.reason = ""

    def _event(self) -> None:
        self.last, self.warned = time.monotonic(), False

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._event()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        self._event()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._event()
        if how_it_ended(trial.last_result) == "failed":
            self._failed(trial)
        else:
            self.finished += 1

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._event()
        self._failed(trial)

    def _failed(self, trial: Trial) -> None:
        self.failed += 1
        self.reason = self.reason or failure(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self.failed >= self.failures and not self.finished:
            raise UserError(f"the first {self.failed} trials all failed; the first one said: {self.reason}")
        idle = time.monotonic() - self.last
        if idle > self.limit:
            raise UserError(f"nothing happened for {idle / 60:.0f} min, so ended: {waiting_for(trials)}; use --resume")
        if idle > self.patience and not self.warned:
            self.warned = True
            log.warning("nothing happened for %.0f s: %s", idle, waiting_for(trials))
            print(f"still waiting after {idle / 60:.0f} min: {waiting_for(trials)}", flush=True)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def waiting_for(trials: list[Trial]) -> str:
    """One line: the trials by state, and the free and total resources."""
    import ray

    states: dict[str, list[str]] = {}
    for trial in trials:
        if trial.status in ("RUNNING", "PENDING"):
            states.setdefault(trial.status.lower(), []).append(str(trial.config.get("number", trial.trial_id)))
    free, total = ray.available_resources(), ray.cluster_resources()
    room = ", ".join(
        f"{free.get(kind, 0):g} of {total[kind]:g} {kind}" for kind in ("CPU", "GPU", SLOT) if kind in total
    )
    told = "; ".join(f"trials {', '.join(numbers)} {state}" for state, numbers in sorted(states.items()))
    return f"{told or 'no trial is out'}; free: {room}"
