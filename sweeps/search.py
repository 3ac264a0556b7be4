"""Who proposes (Optuna's TPE) and who stops (successive halving), with Optuna told the truth.

Ray's own OptunaSearch stores a stopped trial as COMPLETE and leaves a NaN one RUNNING for ever (docs/traps.md); this
searcher stands over Optuna's ask/tell instead: reports at every rung, stopped -> PRUNED, failed or NaN -> FAIL,
finished -> COMPLETE with the best value. Its whole state is Optuna's storage, a SQLite file beside the study that
`optuna-dashboard` opens; nothing of it is pickled.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

log = logging.getLogger(__name__)

Space = Callable[[optuna.Trial], dict[str, Any]] | Mapping[str, Any]
STEP = "step"
FINISHED = "finished"
CONTROL = "control"
CONFIG = "config"
ERROR = "error"


def sample(space: Space, trial: optuna.Trial) -> dict[str, Any]:
    """A configuration: what the define-by-run function returns, or one value per entry of a declarative dict.

    Entries of the dict are Optuna distributions, lists (a choice) or constants.
    """
    if callable(space):
        return space(trial)
    return {name: _suggest(trial, name, entry) for name, entry in space.items()}


def _suggest(trial: optuna.Trial, name: str, entry: Any) -> Any:
    if isinstance(entry, FloatDistribution):
        return trial.suggest_float(name, entry.low, entry.high, step=entry.step, log=entry.log)
    if isinstance(entry, IntDistribution):
        return trial.suggest_int(name, entry.low, entry.high, step=entry.step, log=entry.log)
    if isinstance(entry, CategoricalDistribution):
        return trial.suggest_categorical(name, entry.choices)
    return trial.suggest_categorical(name, entry) if isinstance(entry, list | tuple) else entry


def open_study(storage: str, name: str, *, seed: int, trials: int, controls: Sequence[dict[str, Any]]) -> optuna.Study:
    """Optuna's study of that name: loaded where it exists, else created with the controls first in line.

    The sampler's seed counts the trials there are, so that a resumed study does not propose its first points again.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    sampler = optuna.samplers.TPESampler(n_startup_trials=max(4, min(10, trials // 3)))
    study = optuna.create_study(storage=storage, study_name=name, sampler=sampler, load_if_exists=True)
    known = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed + 7919 * known, n_startup_trials=max(4, min(10, trials // 3)))
    if not known:
        study.set_user_attr("format", 1)
        for control in controls:
            study.enqueue_trial(control, user_attrs={CONTROL: True})
    return study


class OptunaSearcher(Searcher):
    """Tune's searcher over Optuna's ask/tell.

    `make(number, params)` says what else a trial is given; it may raise UserError. A suggestion is
    `{"number": Optuna's trial number, "params": ..., "control": bool, **make(number, params)}`. Trials that an
    earlier, killed driver left RUNNING are handed out first, under their own numbers. At most `concurrency` are out
    at a time.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        make: Callable[[int, dict[str, Any]], dict[str, Any]],
        *,
        metric: str,
        trials: int,
        concurrency: int,
    ) -> None:
        super().__init__(metric=metric, mode="min")
        self.study, self.space, self.make = study, space, make
        self.trials, self.concurrency = trials, concurrency
        self.live: dict[str, optuna.Trial] = {}
        self.unfinished = list(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    @property
    def left(self) -> int:
        """How many trials are still to be handed out."""
        started = [t for t in self.study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
        return max(0, self.trials - len(started)) + len(self.unfinished)

    def suggest(self, trial_id: str) -> Any:
        if len(self.live) >= self.concurrency:
            return None
        if not self.left:
            return Searcher.FINISHED
        again = self.unfinished.pop(0) if self.unfinished else None
        trial = optuna.Trial(self.study, again._trial_id) if again else self.study.ask()
        params = trial.user_attrs.get(CONFIG) or sample(self.space, trial)
        trial.set_user_attr(CONFIG, params)
        self.live[trial_id] = trial
        control = bool(trial.user_attrs.get(CONTROL))
        return {"number": trial.number, "params": params, "control": control, **self.make(trial.number, params)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        trial, value, step = self.live.get(trial_id), result.get(self.metric), result.get(STEP)
        if trial is None or value is None or step is None or not math.isfinite(value):
            return
        if step not in self._frozen(trial).intermediate_values:
            trial.report(value, step)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self.live.pop(trial_id, None)
        if trial is None or self._frozen(trial).state.is_finished():
            return
        value = (result or {}).get(self.metric)
        if error or value is None or not math.isfinite(value):
            self.study.tell(trial, state=TrialState.FAIL)
        elif result and result.get(FINISHED):
            self._report(trial, result)
            self.study.tell(trial, value)
        else:
            self._report(trial, result or {})
            self.study.tell(trial, state=TrialState.PRUNED)

    def _report(self, trial: optuna.Trial, result: dict[str, Any]) -> None:
        step = result.get(STEP)
        if step is not None and step not in self._frozen(trial).intermediate_values:
            trial.report(result[self.metric], step)

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[trial.number]

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: every change is in Optuna's storage already."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study is resumed from Optuna's storage, never from Tune's files: use --resume")

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Halving(FIFOScheduler):
    """Asynchronous successive halving (Li et al. 2020) over a trial's own `step`, never stopping a control.

    At each rung a trial goes on if its value is among the best 1/reduction of all that reached the rung, itself
    included (at least one may). Values are running minima, since those of a GAN are not monotone. `recall` refills
    the rungs from Optuna's record, so that a resumed study judges as the first driver would have.
    """

    def __init__(self, *, metric: str, rungs: Sequence[int], reduction: int) -> None:
        super().__init__()
        self.value, self.reduction = metric, reduction
        self.recorded: dict[int, dict[int, float]] = {rung: {} for rung in sorted(rungs)}

    def recall(self, trials: Sequence[FrozenTrial]) -> None:
        for trial in trials:
            for rung, recorded in self.recorded.items():
                reached = [value for step, value in sorted(trial.intermediate_values.items()) if step >= rung]
                if reached:
                    recorded[trial.number] = reached[0]

    def goes_on(self, number: int, step: int, value: float) -> bool:
        """Record the value at the highest rung newly reached; say whether it is good enough there."""
        new = [rung for rung, recorded in self.recorded.items() if step >= rung and number not in recorded]
        for rung in new:
            self.recorded[rung][number] = value
        if not new:
            return True
        others = sorted(self.recorded[new[-1]].values())
        return value <= others[max(1, len(others) // self.reduction) - 1]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        value, step = result.get(self.value), result.get(STEP)
        if value is None or step is None or not math.isfinite(value) or result.get(FINISHED):
            return TrialScheduler.CONTINUE
        good = self.goes_on(trial.config["number"], int(step), value)
        return TrialScheduler.CONTINUE if good or trial.config[CONTROL] else TrialScheduler.STOP

    def debug_string(self) -> str:
        return (
            f"successive halving: { ({rung: len(seen) for rung, seen in self.recorded.items()}) } trials at the rungs"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {}
