"""Who proposes parameters: a sampler of Optuna, as a function of the study's record.

The sampler is seeded anew for every trial, by the study's seed and the trial's number, and sees the trials that the
record has. So a trial that is proposed again after a crash is the same trial, whichever driver proposes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from sweeps.record.entries import Proposed
from sweeps.record.state import StudyState
from sweeps.search.asha import prunes
from sweeps.search.optuna_mirror import CONFIG, CONTROL, OptunaMirror

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

Space = Callable[[optuna.Trial], dict[str, Any]] | Mapping[str, Any]


def sample(space: Space, trial: optuna.Trial) -> dict[str, Any]:
    """Sample a configuration: the return value of a define-by-run function, or one value per entry of a dict.

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


class StudyRules:
    """The rules of a study (`sweeps.record.core.Rules`): Optuna's sampler proposes, ASHA prunes."""

    def __init__(self, plan: Plan, space: Space) -> None:
        self.plan, self.space = plan, space
        self.mirror = OptunaMirror.in_memory(plan)

    def propose(self, state: StudyState) -> Proposed:
        """The next trial. Raises what the study file's space raises."""
        self.mirror.catch_up(state)
        study, number = self.mirror.study, len(state.trials)
        study.sampler = make_sampler(self.plan, number)
        control = False
        if state.queue:
            control = state.queue[0].control
            study.enqueue_trial(state.queue[0].point, user_attrs={CONTROL: control})
        trial = study.ask()
        params = json.loads(json.dumps(sample(self.space, trial)))  # as the record will have them
        trial.set_user_attr(CONFIG, params)
        kept = study.get_trials(deepcopy=False)[number]
        return Proposed(
            number=number,
            params=params,
            point=dict(kept.params),
            distributions={name: distribution_to_json(kind) for name, kind in kept.distributions.items()},
            attrs=dict(kept.system_attrs),
            control=control,
        )

    def prunes(self, state: StudyState, number: int, step: int, value: float) -> bool:
        search = self.plan.search
        return prunes(state, number, step, value, rungs=search.rungs, reduction=search.reduction)


def make_sampler(plan: Plan, number: int) -> optuna.samplers.BaseSampler:
    """The sampler for one trial."""
    seed = int(np.random.SeedSequence([plan.search.seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, min(10, plan.search.trials // 3)))
