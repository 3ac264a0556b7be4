"""What a study is: the question that a study file asks of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.metrics.names import LATENT_FD
from sweeps.reports.variant_table import VARIANT

if TYPE_CHECKING:
    import optuna

    from sweeps.storage.plan import Plan

METRICS = (LATENT_FD,)


@dataclasses.dataclass(frozen=True)
class Study:
    """One question to a model, asked by a sweep.

    space: a module-level define-by-run function of an Optuna trial, or a dict of Optuna distributions, lists and
    constants; either gives overrides of the recipe. controls: points of it that run first and are never stopped; where
    all trials are, --trials may ask for the first of them alone.
    metric: what proposals and stops go by; lower is better. reports: figures per full trial. rungs: fractions of the
    steps at which all but the best 1/reduction are stopped. grid: the fields and values of `--grid` alone. objectives:
    two or more of latent_fd, fvd_short and fvd_long in place of the metric; stops still go by the metric. clips: behind
    each FVD; None: `flags.judged_on`'s. metrics: of `svgan.metrics.assess`, measured of finished trials. seconds: of a
    trial's training, in place of steps, where all are controls. seeds: of each trial.

    A point may name another `recipe`, `steps` of its own, and, for the tables, a `variant`.
    """

    name: str
    space: Callable[[optuna.Trial], dict[str, Any]] | Mapping[str, Any]
    recipe: str = "tiny"
    metric: str = LATENT_FD
    controls: Sequence[dict[str, Any]] = ()
    trials: int = 6
    steps: int = 1700
    clips: int | None = None
    domain: str = "default"
    reports: int = 8
    rungs: Sequence[float] = (0.25, 0.5)
    reduction: int = 3
    model: str | None = None
    grid: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    objectives: Sequence[str] = ()
    metrics: Sequence[str] = ("fvd",)
    seconds: float | None = None
    seeds: int = 1

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UserError(f"study {self.name}: metric {self.metric!r} is not reported; one of {', '.join(METRICS)}")
        if self.reduction < 2 or not all(0 < rung < 1 for rung in self.rungs):
            raise UserError(f"study {self.name}: rungs are fractions between 0 and 1, reduction is 2 or more")

    def along(self, grid: Mapping[str, Sequence[Any]]) -> Study:
        """This study as an ablation: each point of the grid a control, beside what a declarative space holds fixed."""
        from optuna.distributions import BaseDistribution

        from sweeps.search.grid import points

        space = {} if callable(self.space) else self.space
        fixed = {name: entry for name, entry in space.items() if not isinstance(entry, list | tuple | BaseDistribution)}
        choices = {name: list(values) for name, values in grid.items()}
        return dataclasses.replace(self, space=fixed | choices, controls=points(grid), rungs=())

    def first(self, count: int) -> Study:
        """This study with the first so many of its controls."""
        return dataclasses.replace(self, controls=self.controls[:count])

    def config(self, plan: Plan, params: dict[str, Any], number: int | None = None) -> dict[str, Any]:
        """The run that a proposal stands for, as JSON; as long as the plan says of that trial. Raises UserError for
        what the recipe refuses."""
        from svgan.training import recipes

        own = {"steps": plan.steps, "seed": plan.seed, **params}
        if number is not None and plan.lengths:
            own["steps"] = plan.length(number)
        own.pop(VARIANT, None)
        return recipes.make(own.pop("recipe", self.recipe), **own).to_json()
