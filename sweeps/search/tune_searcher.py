"""Tune's searcher over Optuna's ask-and-tell interface, which tells Optuna how each trial really ended.

Ray's own OptunaSearch stores a pruned trial as COMPLETE, and leaves a trial with NaN RUNNING for ever (docs/traps.md).
Here every report goes into Optuna's record. A finished trial is COMPLETE, a pruned one PRUNED, a failed one FAIL with
the reason. A halted one is WAITING, and `--resume` starts it again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from sweeps.search.optuna_store import (
    CONFIG,
    CONTROL,
    ERROR,
    REPORTS,
    STEP,
    Record,
    Space,
    reports,
    sample,
    unfinished,
    was_out,
)
from sweeps.storage.trial_outcome import FAILED, how_it_ended


class OptunaSearcher(Searcher):
    """Tune's searcher over Optuna's ask-and-tell interface.

    A suggestion is `{"number": Optuna's trial number, "params": ..., "control": bool, **make(number, params)}`; `make`
    may raise UserError. Trials that an earlier driver left unfinished come first, with their own numbers and
    parameters. At most `concurrency` trials run at a time. No trial starts once `stopping` returns True.

    metric: reported at each step. objectives: the keys of the figures of a finished trial that Optuna gets; by default
    the metric alone.
    """

    def __init__(
        self,
        record: Record,
        space: Space,
        make: Callable[[int, dict[str, Any]], dict[str, Any]],
        *,
        metric: str,
        trials: int,
        concurrency: int,
        objectives: Sequence[str] = (),
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(metric=metric, mode="min")
        self.record, self.study, self.space, self.make = record, record.study, space, make
        self.concurrency, self.stopping = concurrency, stopping
        self.objectives = tuple(objectives) or (metric,)
        self.live: dict[str, optuna.Trial] = {}
        self.reported: dict[str, dict[int, float]] = {}
        known = self.study.get_trials(deepcopy=False)
        self.unfinished = deque(unfinished(known))
        self.new = max(0, trials - sum(was_out(trial) for trial in known))

    @property
    def left(self) -> int:
        """The number of trials that have not been started."""
        return self.new + len(self.unfinished)

    def suggest(self, trial_id: str) -> Any:
        if not self.left or self.stopping():
            return Searcher.FINISHED
        if len(self.live) >= self.concurrency:
            return None
        trial, earlier = self._next()
        params = trial.user_attrs.get(CONFIG) or sample(self.space, trial)
        trial.set_user_attr(CONFIG, params)
        self.live[trial_id] = trial
        self.reported[trial_id] = earlier
        control = bool(trial.user_attrs.get(CONTROL))
        return {"number": trial.number, "params": params, "control": control, **self.make(trial.number, params)}

    def _next(self) -> tuple[optuna.Trial, dict[int, float]]:
        """The next trial, with what an earlier driver recorded of it."""
        if not self.unfinished:
            self.new -= 1
            return self.study.ask(), {}
        again = self.unfinished.popleft()
        if again.state == TrialState.WAITING:
            self.record.set_state(again.number, TrialState.RUNNING)
        return self.record.trial(again.number), reports(again)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        value, step = result.get(self.metric), result.get(STEP)
        if trial_id not in self.live or value is None or step is None or not math.isfinite(value):
            return
        trial, seen = self.live[trial_id], self.reported[trial_id]
        # A driver can die between a checkpoint and its report to Optuna. The trial then continues beyond that report.
        missed = {at: least for at, least in {**result.get(REPORTS, {}), step: value}.items() if at not in seen}
        seen |= missed
        if len(self.objectives) > 1 and missed:
            trial.set_user_attr(REPORTS, {str(at): least for at, least in seen.items()})
        elif len(self.objectives) == 1:
            for at, least in missed.items():
                trial.report(least, at)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id not in self.live:
            return
        result, how = result or {}, how_it_ended(result, error)
        if how != "failed":
            self.on_trial_result(trial_id, result)
        trial, seen = self.live.pop(trial_id), self.reported.pop(trial_id)
        missing = [name for name in self.objectives if not math.isfinite(result.get(name, math.nan))]
        if how == "halted":
            self.record.set_state(trial.number, TrialState.WAITING)
        elif how == "failed":
            self._fail(trial, str(result[FAILED]))
        elif how == "finished":
            if missing:
                self._fail(trial, f"{missing[0]} is {result.get(missing[0])}")
            else:
                self.study.tell(trial, [float(result[name]) for name in self.objectives])
        elif seen and math.isfinite(result.get(self.metric, math.nan)):
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self._fail(trial, "it ended without a figure")

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr(ERROR, reason[:500])
        self.study.tell(trial, state=TrialState.FAIL)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: every change is in Optuna's storage already."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study is resumed from Optuna's storage, never from Tune's files: use --resume")

    def __getstate__(self) -> dict[str, Any]:
        return {}
