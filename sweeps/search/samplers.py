"""Optuna's samplers by the names of `--sampler`, each seeded anew for every trial."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, create_trial

from svgan.errors import UserError
from svgan.io.safe_unpickle import NUMPY, AllowList

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

OPTIMIZER = "cma:optimizer"  # where CmaEsSampler keeps its state, in parts, among a trial's system attributes


def startup(plan: Plan) -> int:
    """The number of trials that are drawn at random before a model of the parameters is fitted."""
    return max(4, min(10, plan.search.trials // 3))


def make_sampler(plan: Plan, number: int, source: Sequence[FrozenTrial] = ()) -> BaseSampler:
    """The sampler for one trial. source: finished trials of another study, which CMA-ES takes in a way of its own.

    NSGA-II's population is a third of the trials where Optuna's own of 50 would leave them all in one generation.
    """
    seed = int(np.random.SeedSequence([plan.search.seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match plan.search.sampler:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup(plan))
            case "gp":
                return optuna.samplers.GPSampler(
                    seed=seed, n_startup_trials=startup(plan), warn_independent_sampling=False
                )
            case "cmaes":
                return optuna.samplers.CmaEsSampler(
                    seed=seed, warn_independent_sampling=False, source_trials=list(source) or None
                )
            case "nsgaii":
                return optuna.samplers.NSGAIISampler(
                    seed=seed, population_size=max(4, min(50, plan.search.trials // 3))
                )
            case _:
                return optuna.samplers.RandomSampler(seed=seed)


def source_of(plan: Plan, study: optuna.Study, warm: int) -> list[FrozenTrial]:
    """The study's first `warm` trials as CMA-ES takes those of another study: with no parameters but its own."""
    if plan.search.sampler != "cmaes" or not warm:
        return []
    trials = study.get_trials(deepcopy=False)
    own = make_sampler(plan, 0).infer_relative_search_space(study, trials[0])
    return [
        create_trial(params={name: trial.params[name] for name in own}, distributions=dict(own), values=trial.values)
        for trial in trials[:warm]
        if own and own.keys() <= trial.params.keys()
    ]


def check_optimizer(trials: Iterable[FrozenTrial]) -> None:
    """Raises UserError for a state of CMA-ES that would run code: Optuna keeps it as a pickle, and unpickles it."""
    for trial in trials:
        parts = sum(key.startswith(OPTIMIZER) for key in trial.system_attrs)
        if not parts:
            continue
        import cmaes

        text = "".join(trial.system_attrs[f"{OPTIMIZER}:{part}"] for part in range(parts))
        source = f"the sampler's state in trial {trial.number}"
        AllowList(io.BytesIO(bytes.fromhex(text)), NUMPY | {("cmaes._cma", "CMA"): cmaes.CMA}, source).load()


def one_line_of(plan: Plan, error: Exception) -> UserError:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(f"--sampler {plan.search.sampler}: cannot search this space ({said[:200]}); use --sampler tpe")
