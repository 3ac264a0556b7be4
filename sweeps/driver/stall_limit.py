"""End a study in which nothing moves, or whose first trials all fail, with the reason in one line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from svgan.errors import UserError
from svgan.training.reporter import duration
from sweeps.ray_runtime.resources import NODE_SECONDS, SLOT
from sweeps.storage.trial_failure import failure
from sweeps.storage.trial_outcome import how_it_ended

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from sweeps.driver.life_watch import LifeWatch
    from sweeps.storage.life import Sign
    from sweeps.storage.plan import Plan

log = logging.getLogger(__name__)
# A worker that does not move for --patience is killed and started again, which is a movement. Three such kills in a row
# end its trial, so a silence of four times --patience means that nobody is left who would move or be killed.
SILENCES = 4
# A driver that is stopped and continued (SIGSTOP, a paused virtual machine) has not watched meanwhile. Of the time
# between two looks, which Tune makes several times a second, no more than this counts.
LOOK_SECONDS = 10.0


class StallLimit(Callback):
    """A Tune callback that ends a study which cannot succeed: `failures` failed trials before any finished, or too long
    a time without a movement.

    Movements are a trial's start, result and end, and every change of a sign of life (steps, scored clips, bytes). The
    limit is SILENCES times --patience, or NODE_SECONDS while a trial waits for a node of a cluster. After --patience
    without a movement, the callback prints once what the study waits for. It raises UserError out of `Tuner.fit`, so
    that a study always ends with a reason.
    """

    def __init__(
        self,
        plan: Plan,
        life: LifeWatch,
        local: bool,
        failures: int = 3,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.life, self.local, self.failures, self.clock = life, local, failures, clock
        self.patience = 60 * plan.compute.patience
        self.silence, self.looked, self.warned = 0.0, clock(), False
        self.seen: dict[int, Sign] = {}
        self.failed, self.finished = 0, 0
        self.reason = ""

    @property
    def waits(self) -> Sign | None:
        """The sign of a trial that waits for a node, if one does."""
        return next((sign for sign in self.life.signs.values() if sign.waits), None)

    @property
    def limit(self) -> float:
        """Seconds without a movement after which the study ends."""
        silence = SILENCES * self.patience
        return max(silence, NODE_SECONDS) if self.waits and not self.local else silence

    def _moved(self) -> None:
        self.silence, self.warned = 0.0, False

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._moved()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        self._moved()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._moved()
        if how_it_ended(trial.last_result) == "failed":
            self._failed(trial)
        else:
            self.finished += 1

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._moved()
        self._failed(trial)

    def _failed(self, trial: Trial) -> None:
        self.failed += 1
        self.reason = self.reason or failure(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self.failed >= self.failures and not self.finished:
            raise UserError(f"the first {self.failed} trials all failed; the first one said: {self.reason}")
        now = self.clock()
        self.silence, self.looked = self.silence + min(now - self.looked, LOOK_SECONDS), now
        self._heed_signs()
        if self.silence > self.limit:
            raise UserError(f"nothing moved for {duration(self.silence)}, so ended: {self._why(trials)}; use --resume")
        if self.silence > self.patience and not self.warned:
            self.warned = True
            log.warning("nothing moved for %.0f s: %s", self.silence, self._why(trials))
            print(f"still waiting after {duration(self.silence)}: {self._why(trials)}", flush=True)

    def _heed_signs(self) -> None:
        for number, sign in self.life.signs.items():
            if sign != self.seen.get(number):
                self.seen[number] = sign
                if not sign.waits:
                    self._moved()

    def _why(self, trials: list[Trial]) -> str:
        signs = [f"trial {number} at last: {sign}" for number, sign in sorted(self.life.signs.items())[:3]]
        trouble = [f"signs of life cannot be read ({self.life.trouble})"] if self.life.trouble else []
        return "; ".join([waiting_for(trials), *signs, *trouble])

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
