"""The definition of a study: what a study file asks of a model."""

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
    """One question to a model, asked by a sweep. Its fields are the defaults of the study's flags.

    A point may name another `recipe`, `steps` of its own, and, for the tables, a `variant`.
    """

    name: str
    """The study file's name without `.py`."""
    space: Callable[[optuna.Trial], dict[str, Any]] | Mapping[str, Any]
    """A module-level define-by-run function of an Optuna trial, or a dict of Optuna distributions, lists and constants.
    Either gives overrides of the recipe."""
    recipe: str = "tiny"
    """The recipe whose fields a trial's parameters override."""
    metric: str = LATENT_FD
    """The figure by which trials are proposed and pruned; lower is better."""
    controls: Sequence[dict[str, Any]] = ()
    """Parameter points that run first and are never pruned. If every trial is a control, --trials N keeps the
    first N."""
    trials: int = 6
    """Number of trials, controls included."""
    steps: int = 1700
    """Generator steps of a trial that is not pruned."""
    clips: int | None = None
    """Clips behind each FVD. None: as many as a CPU, or a GPU, measures in minutes (`flags.judged_on`)."""
    domain: str = "default"
    """The domain that renders."""
    reports: int = 8
    """Number of reports of a trial that is not pruned."""
    rungs: Sequence[float] = (0.25, 0.5)
    """Fractions of the steps at which ASHA prunes."""
    reduction: int = 3
    """ASHA's reduction factor: all but the best 1/reduction are pruned at a rung."""
    model: str | None = None
    """Registered model. None: named after the domain."""
    grid: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    """The fields and values of `--grid` without words."""
    objectives: Sequence[str] = ()
    """Two or more of latent_fd, fvd_short and fvd_long in place of the metric. Trials are still pruned by the
    metric."""
    metrics: Sequence[str] = ("fvd",)
    """Metrics of `svgan.metrics.assess` that are measured of a finished trial."""
    seconds: float | None = None
    """Seconds of training per trial, in place of steps, where all trials are controls."""
    seeds: int = 1
    """Seeds of each trial."""

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UserError(f"study {self.name}: metric {self.metric!r} is not reported; one of {', '.join(METRICS)}")
        if self.reduction < 2 or not all(0 < rung < 1 for rung in self.rungs):
            raise UserError(f"study {self.name}: rungs are fractions between 0 and 1, reduction is 2 or more")

    def along(self, grid: Mapping[str, Sequence[Any]]) -> Study:
        """This study as an ablation: each point of the grid is a control, beside the constants of a declarative
        space.
        """
        from optuna.distributions import BaseDistribution

        from sweeps.search.grid import points

        space = {} if callable(self.space) else self.space
        fixed = {name: entry for name, entry in space.items() if not isinstance(entry, list | tuple | BaseDistribution)}
        choices = {name: list(values) for name, values in grid.items()}
        return dataclasses.replace(self, space=fixed | choices, controls=points(grid), rungs=())

    def first(self, count: int) -> Study:
        """This study with the first `count` of its controls."""
        return dataclasses.replace(self, controls=self.controls[:count])

    def config(self, plan: Plan, params: dict[str, Any], number: int | None = None) -> dict[str, Any]:
        """The configuration of a proposal's run, as JSON, with the length that the plan gives that trial. Raises
        UserError if the recipe refuses it.
        """
        from svgan.training import recipes

        own = {"steps": plan.search.steps, "seed": plan.search.seed, **params}
        if number is not None and plan.search.lengths:
            own["steps"] = plan.search.steps_of(number)
        own.pop(VARIANT, None)
        return recipes.make(own.pop("recipe", self.recipe), **own).to_json()
