"""`--warm-start`: the finished trials of another study, for this study's sampler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from optuna.distributions import json_to_distribution

from svgan.errors import UserError
from sweeps.record.entries import Proposed, Warmed
from sweeps.search.optuna_store import read_record
from sweeps.search.points import drawn
from sweeps.search.proposer import Space
from sweeps.storage.paths import is_remote
from sweeps.storage.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST_OF_CMAES = 10  # cmaes.get_warm_start_mgd takes the best tenth
REMEDY = "name a study that searched the same, or leave --warm-start out"


def warmed(plan: Plan, space: Space) -> Warmed:
    """The entry with the finished trials of the plan's other study.

    Raises UserError if there are none, or if its space, metric, domain or recipe is another one.
    """
    other = find(plan)
    said = f"--warm-start {plan.search.warm_start}"
    for what in differences(plan, other):
        raise UserError(f"{said}: its trials were judged by another {what}; {REMEDY}")
    names = plan.search.objective_keys
    trials = []
    for trial in read_record(other).trials:
        if trial.ended and trial.ending == "finished":
            if not same_space(space, trial.proposal):
                raise UserError(f"{said}: its trial {trial.number} is of another space; {REMEDY}")
            values = [trial.ended.figures[name] for name in names]
            point, kinds = trial.proposal.point, trial.proposal.distributions
            trials.append({"point": point, "distributions": kinds, "values": values})
    if not trials:
        raise UserError(f"{said}: none of its trials has finished; finish it first, or leave --warm-start out")
    if plan.search.sampler == "cmaes" and len(trials) < LEAST_OF_CMAES:
        raise UserError(
            f"{said}: {len(trials)} of its trials have finished, and CMA-ES begins with the best tenth of "
            f"{LEAST_OF_CMAES} or more; use --sampler tpe or gp"
        )
    return Warmed(study=other.name, trials=trials)


def find(plan: Plan) -> Plan:
    """The plan of the other study, by its name in the same storage or by its folder. Raises UserError if none."""
    asked = plan.search.warm_start
    if "/" not in asked:
        return Plan.find(plan.output.storage, asked)
    folder = Path(asked)
    other = Plan.load(folder)
    if is_remote(other.output.storage):
        return other
    return other.with_fields(storage=str(folder.parent), folder=str(folder))  # it may have been moved


def differences(plan: Plan, other: Plan) -> Iterator[str]:
    """What figures depend on and that is not the same."""
    if plan.search.objective_keys != other.search.objective_keys:
        yield f"metric ({', '.join(other.search.objective_keys)})"
    if plan.search.recipe != other.search.recipe:
        yield f"recipe ({other.search.recipe})"
    protocols = (
        {name for name in plan.tags | other.tags if name.startswith("protocol.")} if plan.search.objectives else ()
    )
    for name in ("domain", "latents", "pictures", *sorted(protocols)):
        if plan.tags.get(name) != other.tags.get(name):
            yield {"latents": "set of codes", "pictures": "domain of pictures"}.get(name, name)


def same_space(space: Space, proposal: Proposed) -> bool:
    """Whether the space has this point, with the same distributions."""
    try:
        trial = drawn(space, proposal.point)
    except ValueError:
        return False
    return trial.distributions == {name: json_to_distribution(kind) for name, kind in proposal.distributions.items()}
