"""The driver's view of its running trials: their last signs of life, read beside Tune's loop."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from svgan.errors import one_line
from svgan.io import storage
from sweeps.storage import life
from sweeps.storage.repeating import Repeating

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from sweeps.storage.life import Sign
    from sweeps.storage.plan import Plan


class LifeWatch(Repeating, Callback):
    """A Tune callback with a thread that reads the signs of the trials that run, so that a slow storage never holds
    Tune's loop.

    signs: the last sign of each running trial. trouble: why signs cannot be read, '' if they can.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.trouble = plan, ""
        self.signs: Mapping[int, Sign] = {}
        self.running: set[int] = set()
        super().__init__("svgan-life-watch", life.interval(plan))

    def __enter__(self) -> LifeWatch:
        with contextlib.suppress(*storage.ERRORS):
            life.clear(self.plan)  # signs of an earlier driver's trials
        return super().__enter__()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.add(trial.config["number"])

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.discard(trial.config["number"])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.discard(trial.config["number"])

    def again(self) -> None:
        self.look()

    def look(self) -> None:
        """Read the signs of the running trials, and remove those of trials that have ended."""
        try:
            running, before = set(self.running), self.signs
            found = {number: life.read(self.plan, number) for number in running}
            self.signs = {number: sign for number, sign in sorted(found.items()) if sign}  # replaced whole: two threads
            for number in before.keys() - running:
                life.forget(self.plan, number)
            self.trouble = ""
        except storage.ERRORS as error:
            self.trouble = one_line(error, 200)

    def __getstate__(self) -> dict[str, Any]:
        return {}
