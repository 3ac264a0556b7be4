"""Who proposes parameters, and who prunes: Optuna's samplers and pruners, as functions of the study's record.

The sampler is seeded anew for every trial, by the study's seed and the trial's number, and sees the trials that the
record has. So a trial that is proposed again after a crash is the same trial, whichever driver proposes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from sweeps.record.entries import Ended, Proposed
from sweeps.record.state import StudyState
from sweeps.search import asha
from sweeps.search.optuna_mirror import CONFIG, CONTROL
from sweeps.search.pruners import PrunerStudy
from sweeps.search.sampler_mirror import SamplerMirror
from sweeps.search.samplers import check_optimizer, make_sampler, one_line_of, source_of, startup

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

# Samplers that model parameters together, and what to say where they find none to model.
MODELLING = {
    "gp": "it models the parameters that every trial has, and this space has none",
    "cmaes": "it models the numbers that every trial has, and this space has none",
}
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
    """The rules of a study (`sweeps.record.core.Rules`): the sampler proposes, the pruner prunes."""

    def __init__(self, plan: Plan, space: Space) -> None:
        self.plan, self.space = plan, space
        self.mirror, self.pruner = SamplerMirror(plan), PrunerStudy(plan)

    def propose(self, state: StudyState) -> Proposed:
        """The next trial. Raises what the study file's space raises."""
        self.mirror.catch_up(state)
        study = self.mirror.study
        check_optimizer(study.get_trials(deepcopy=False))
        study.sampler = make_sampler(self.plan, len(state.trials), source_of(self.plan, study, len(state.warm)))
        control = False
        if state.queue:
            control = state.queue[0].control
            study.enqueue_trial(state.queue[0].point, user_attrs={CONTROL: control})
        trial = study.ask()
        params = json.loads(json.dumps(sample(self.space, trial)))  # as the record will have them
        trial.set_user_attr(CONFIG, params)
        kept = study.get_trials(deepcopy=False)[trial.number]
        return Proposed(
            number=len(state.trials),
            params=params,
            point=dict(kept.params),
            distributions={name: distribution_to_json(kind) for name, kind in kept.distributions.items()},
            attrs=dict(kept.system_attrs),
            control=control,
        )

    def prunes(self, state: StudyState, number: int, step: int, value: float) -> bool:
        """Whether the report ends the trial: only at a rung, and never a control."""
        search, trial = self.plan.search, state.trials[number]
        if search.pruner == "asha":
            return asha.prunes(state, number, step, value, rungs=search.rungs, reduction=search.reduction)
        if trial.proposal.control or asha.highest_new(search.rungs, trial.reports, step) is None:
            return False
        return self.pruner.prunes(state, number, step, value)


def check_sampler(plan: Plan, space: Space) -> None:
    """Propose a few trials, with figures made up, as the study will. Raises UserError if the sampler cannot do it."""
    if plan.search.trials == plan.search.controls:
        return
    rules, state = StudyRules(plan, space), StudyState()
    try:
        for number in range(startup(plan) + 1):
            state.apply(rules.propose(state))
            figures = {name: float(number) for name in plan.search.objective_keys}
            state.apply(Ended(number=number, ending="finished", figures=figures))
        rules.mirror.catch_up(state)
        study = rules.mirror.study
        searched = study.sampler.infer_relative_search_space(study, study.get_trials()[0])
    except (ValueError, ImportError, NotImplementedError) as error:
        raise one_line_of(plan, error) from None
    if plan.search.sampler in MODELLING and not searched:
        raise one_line_of(plan, ValueError(MODELLING[plan.search.sampler]))
