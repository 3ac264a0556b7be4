"""Tune's searcher, scheduler and callback over a study's core: Tune runs the trials, the core decides.

Tune gives a report to the scheduler, and an ending to the searcher first and then to the callbacks. Reports reach the
core through the scheduler, endings through the callback, which knows the whole trial.

Ray's own OptunaSearch stores a pruned trial as COMPLETE, and leaves a trial with NaN RUNNING for ever (docs/traps.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweeps.record.core import Core
from sweeps.search.optuna_mirror import CONTROL
from sweeps.storage.trial_failure import failure
from sweeps.storage.trial_outcome import FAILED, REPORTS, STEP, WHY, Ending, how_it_ended

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from sweeps.storage.stop_request import StopWatch


class CoreSearcher(Searcher):
    """Hands out the core's trials.

    A suggestion is `{"number": the trial's, "params": ..., "control": bool, **make(number, params)}`; `make` may raise
    UserError. At most `concurrency` trials run at a time. metric: the key of the figure in reports.
    """

    def __init__(
        self,
        core: Core,
        make: Callable[[int, dict[str, Any]], dict[str, Any]],
        *,
        metric: str,
        concurrency: int,
    ) -> None:
        super().__init__(metric=metric, mode="min")
        self.core, self.make, self.concurrency = core, make, concurrency
        self.live: dict[str, int] = {}  # numbers by Tune's ids

    def suggest(self, trial_id: str) -> Any:
        if len(self.live) >= self.concurrency and self.core.left and not self.core.stopping():
            return None
        trial = self.core.next()
        if trial is None:
            return Searcher.FINISHED
        self.live[trial_id] = trial.number
        params = trial.proposal.params
        own = {"number": trial.number, "params": params, CONTROL: trial.proposal.control}
        return own | self.make(trial.number, params)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing to do: the scheduler has given it to the core."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.live.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: every decision is in the study's record already."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study is resumed from its record, never from Tune's files: use --resume")

    def __getstate__(self) -> dict[str, Any]:
        return {}


class CoreScheduler(FIFOScheduler):
    """Gives every report to the core, and stops a trial that the core prunes."""

    def __init__(self, core: Core, *, metric: str) -> None:
        super().__init__()
        self.core, self.value = core, metric

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if how_it_ended(result) != "pruned":  # the trial has ended by itself; the searcher is told how
            return TrialScheduler.CONTINUE
        stop = take_report(self.core, trial.config["number"], result, self.value)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def debug_string(self) -> str:
        return "the study's core decides"

    def __getstate__(self) -> dict[str, Any]:
        return {}


class CoreCallback(Callback):
    """Tells the core how each trial ended, and ends the study if a trial was halted for a reason that halts all.

    lost: whether another driver has taken the study over; this one then ends, and its trials with it.
    """

    def __init__(self, core: Core, watch: StopWatch, *, metric: str, lost: Callable[[], bool] = lambda: False) -> None:
        self.core, self.watch, self.metric, self.lost = core, watch, metric, lost
        self.died: dict[int, str] = {}  # trials whose process died too often, and what was said last

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self.lost():
            raise self.core.log.superseded()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        result = trial.last_result or {}
        how = how_it_ended(result)
        if how == "halted" and result.get(WHY):
            self.watch.stop(str(result[WHY]))
        self._end(trial, how, str(result.get(FAILED) or result.get(WHY) or ""))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.died[trial.config["number"]] = failure(trial)
        self._end(trial, how_it_ended(trial.last_result, error=True), failure(trial))

    def _end(self, trial: Trial, how: Ending, reason: str) -> None:
        number, result = trial.config["number"], trial.last_result or {}
        if how != "failed":
            take_report(self.core, number, result, self.metric, last=True)
        figures = {key: result[key] for key in self.core.objectives if key in result}
        self.core.end(number, how, int(result.get(STEP) or 0), figures, reason)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def take_report(core: Core, number: int, result: Mapping[str, Any], metric: str, last: bool = False) -> bool:
    """Give a result's report to the core; return whether the trial is pruned."""
    value, step = result.get(metric), result.get(STEP)
    if value is None or step is None or not math.isfinite(value):
        return core.state.trials[number].pruned
    return core.report(number, int(step), float(value), dict(result.get(REPORTS, ())), last=last)
