"""The parts of a study's plan: what to search, on which data, with what compute, judged how, kept where.

The flags of every study file come from these fields (`sweeps.driver.flags`), their help from the text beneath each.
A field without a flag is marked `NoFlag`. A field whose flag was not given is `UNDECIDED` until the driver starts the
study (`sweeps.driver.new_plan`); in a plan every field has its value. The names of all fields are different, since
flags and `study.json` know no parts.
"""

import dataclasses
import math
import re
from functools import partial
from typing import Annotated, Any, Literal

from svgan.dataclass_flags import UNDECIDED, NoFlag, flag, switch
from svgan.errors import UserError
from svgan.metrics.names import FVD_LONG, FVD_SHORT, LATENT_FD
from sweeps.storage import environment
from sweeps.storage.environment import check_passwordless, default_text
from sweeps.storage.metric_names import LATENT_FD_BEST
from sweeps.storage.paths import default_tracking

JOURNAL = "journal"
CHECKPOINT_MINUTES = 10.0  # of a lost node's 6 hours they cost 1.4 % on average, and a checkpoint takes seconds
# Hundreds of times a usual step, and several times the slowest part without a movement of its own (starting
# MLflow, a latent distance on a busy CPU). Slower steps are refused before the start (`forecast.check_patience`).
PATIENCE_MINUTES = 15.0
# What a study may minimise, each with the figure of a finished trial that stands for it.
OBJECTIVES = {LATENT_FD: LATENT_FD_BEST, FVD_SHORT: FVD_SHORT, FVD_LONG: FVD_LONG}
SAMPLERS = ("tpe", "gp", "cmaes", "nsgaii", "random")  # sweeps.search.samplers
PRUNERS = ("asha", "hyperband", "median", "none")  # sweeps.search.pruners
# docs/judging.md: the clips of a trial's FVD; on a GPU also those of a champion's, and the seeds that it is a mean of.
ON_CPU, ON_GPU = 64, (256, 2048, 3)
_DATABASE = re.compile(r"^postgresql(\+psycopg)?://")


def default_of(name: str, built_in: Any = UNDECIDED) -> Any:
    """A field whose default a variable of the environment may set."""
    return dataclasses.field(default_factory=partial(environment.default, name, built_in))


def split_at_commas(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """What to search."""

    recipe: NoFlag[str]
    """The recipe whose fields a trial's parameters override."""
    metric: NoFlag[str]
    """The figure by which trials are proposed and pruned; lower is better."""
    objective: NoFlag[str] = LATENT_FD_BEST
    """The key of that figure in a report: the lowest value so far."""
    controls: NoFlag[int]
    """Number of controls: trials of given parameters that run first and are never pruned."""
    trials: Annotated[int, flag("N", int, default="{}; with --grid, its points")] = UNDECIDED
    """Number of trials, controls and enqueued points included. A larger one may be given at --resume."""
    enqueued: NoFlag[tuple[dict[str, Any], ...]] = ()
    """Points of the space that the user gave. They run before anything is proposed, and may be pruned."""
    steps: Annotated[int, flag("N", int)]
    """Generator steps of a trial that is not pruned."""
    seconds: Annotated[
        float | None, flag("X", float, default=lambda text: "as many as --steps" if text == "None" else text)
    ] = None
    """Seconds of training per trial, in place of steps. Each trial gets as many steps as its timing beforehand says.
    Every trial must be a control or a point of a grid."""
    lengths: NoFlag[tuple[int, ...]] = ()
    """Steps of each trial where seconds were asked for, else empty."""
    seed: Annotated[int, flag("N", int)] = 0
    """Seed of the search and of every trial."""
    sampler: Annotated[str, flag("NAME")] = SAMPLERS[0]
    """Who proposes parameters: Optuna's tpe, gp, cmaes, nsgaii or random."""
    pruner: Annotated[str, flag("NAME")] = PRUNERS[0]
    """Who prunes trials: asha, or Optuna's hyperband or median, or none."""
    warm_start: Annotated[str, flag("NAME", default=lambda text: text or "none")] = ""
    """Study of the same space, by name or folder, whose finished trials the sampler sees before its own."""
    grid: NoFlag[dict[str, list[Any]]] = UNDECIDED
    """Fields and values of a grid, each point of which is a trial; empty for a search."""
    objectives: Annotated[tuple[str, ...], flag("A,B", split_at_commas, default=f"of {', '.join(OBJECTIVES)}")] = (
        UNDECIDED
    )
    """Two or more figures to minimise at once, towards their Pareto front."""
    seeds: Annotated[int, flag("N", int)] = 1
    """Seeds of each trial. They are trained one after another, and the trial is judged by their mean."""
    reports: NoFlag[int]
    """Number of reports of a trial that is not pruned."""
    rungs: NoFlag[tuple[int, ...]]
    """Steps at which trials may be pruned; empty where none is."""
    reduction: NoFlag[int]
    """The reduction factor of ASHA and Hyperband: all but the best 1/reduction are pruned at a rung."""

    def __post_init__(self) -> None:
        check_counts(trials=self.trials, steps=self.steps, seeds=self.seeds)
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UserError(f"--seconds {self.seconds:g}: must be a number above 0")
        for name, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"--{name} {getattr(self, name)}: there is none of that name; one of {', '.join(known)}"
                )
        if self.warm_start and self.sampler not in SAMPLERS[:3]:
            raise UserError(
                f"--warm-start {self.warm_start}: {self.sampler} proposes from this study's trials alone, if from any; "
                f"use --sampler {', '.join(SAMPLERS[:2])} or {SAMPLERS[2]}"
            )
        self._check_objectives()
        if self.controls is not UNDECIDED:
            self._check_trials()

    def _check_objectives(self) -> None:
        asked = self.objectives or ()
        if unknown := [name for name in asked if name not in OBJECTIVES]:
            raise UserError(f"--objectives {unknown[0]}: is not measured; give two or more of {', '.join(OBJECTIVES)}")
        if asked and len(set(asked)) < max(2, len(asked)):
            raise UserError(
                f"--objectives {','.join(asked)}: give two or more different ones; one alone is latent_fd, "
                "which goes without the flag"
            )

    def _check_trials(self) -> None:
        if self.seconds is not None and self.trials != self.controls:
            raise UserError(
                f"--seconds {self.seconds:g}: trials that are still to be proposed cannot be timed beforehand; give "
                "--steps, or a --grid"
            )
        if self.seeds > 1 and "seed" in self.grid:
            raise UserError(f"--grid seed: with --seeds {self.seeds} every trial has seeds of its own; leave one out")
        if self.grid and self.trials != (points := math.prod(map(len, self.grid.values()))):
            raise UserError(f"--trials {self.trials}: the grid has {points} points, a trial each; leave --trials out")
        if self.grid and self.warm_start:
            raise UserError(f"--warm-start {self.warm_start}: a grid's points are given; leave it out with --grid")
        if self.grid and (self.sampler, self.pruner) != (SAMPLERS[0], PRUNERS[0]):
            name = "sampler" if self.sampler != SAMPLERS[0] else "pruner"
            raise UserError(
                f"--{name} {getattr(self, name)}: a grid's points are given, none is pruned; leave it out with --grid"
            )
        if self.enqueued and self.trials < self.controls + len(self.enqueued):
            raise UserError(
                f"--trials {self.trials}: this study has {self.controls} controls and {len(self.enqueued)} points of "
                "--enqueue; ask for as many"
            )
        if self.trials < self.controls:
            raise UserError(
                f"--trials {self.trials}: this study has {self.controls} controls that always run; ask for as many"
            )

    @property
    def objective_keys(self) -> tuple[str, ...]:
        """The keys of a finished trial's figures that Optuna minimises."""
        return tuple(OBJECTIVES[name] for name in self.objectives) or (self.objective,)

    def steps_of(self, number: int) -> int:
        """Steps of trial `number` if it is not pruned."""
        return self.lengths[number] if self.lengths else self.steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """On which data."""

    latents: Annotated[str, flag("URI", default=lambda _: default_text("latents", "those of the domain"))] = default_of(
        "latents"
    )
    """W+ shards: a folder or URL."""
    domain: Annotated[str, flag("DIR", default="the study's")] = UNDECIDED
    """The domain that renders: its folder, at the same place on every node."""
    pictures: Annotated[str, flag("DIR", default="none")] = ""
    """Another domain, whose pictures are to move (cross-domain recipes)."""
    footage: Annotated[bool, switch("what codes render")] = False
    """Recipes of frames see the recorded ones, which svgan embed --frames keeps beside the codes."""

    def __post_init__(self) -> None:
        check_passwordless("--latents", self.latents or "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compute:
    """With what compute."""

    workers: Annotated[int, flag("N", int, default=partial(default_text, "workers"))] = default_of("workers", 1)
    """DDP workers of a trial."""
    cpus_per_worker: NoFlag[float] = 1
    """CPUs that Ray reserves for a worker."""
    gpus_per_worker: Annotated[
        float,
        flag("X", float, default=lambda _: default_text("gpus_per_worker", "a share of the GPUs there are, else 0")),
    ] = default_of("gpus_per_worker")
    """GPUs that Ray reserves for a worker; may be a fraction."""
    concurrency: Annotated[
        int,
        flag(
            "N",
            int,
            default=lambda _: f"as CPUs, GPUs and memory allow; at most {default_text('concurrency', 'any')}",
        ),
    ] = UNDECIDED
    """Trials that run at a time."""
    max_gpu_hours: Annotated[
        float | None, flag("X", float, default=lambda _: default_text("max_gpu_hours", "none"))
    ] = None
    """GPU-hours after which the study stops, to be resumed with more. Core-hours where trials have no GPU."""
    max_hours: Annotated[float | None, flag("X", float, default="none")] = None
    """Hours of this command after which the study stops, to be resumed. Hours before a --resume do not count."""
    trial_hours: Annotated[float | None, flag("X", float, default="none")] = None
    """Hours of a trial's workers after which it stops training and is judged as it stands. Restarts count together."""
    patience: Annotated[float, flag("MIN", float, default=f"{PATIENCE_MINUTES:g}")] = UNDECIDED
    """Minutes without a step, a scored clip or a transferred byte after which a worker is killed and started again."""
    checkpoint_minutes: Annotated[float, flag("MIN", float)] = CHECKPOINT_MINUTES
    """Minutes between two checkpoints of a trial. Every report makes one too; with 0 no others are made."""

    def __post_init__(self) -> None:
        check_counts(workers=self.workers, concurrency=self.concurrency)
        if self.patience is not None and not 0 < self.patience < math.inf:
            raise UserError(f"--patience {self.patience:g}: minutes without a movement, so a number above 0")
        if not 0 <= self.checkpoint_minutes < math.inf:
            raise UserError(f"--checkpoint-minutes {self.checkpoint_minutes:g}: minutes, so a number from 0 on")
        if (self.gpus_per_worker or 0) < 0:
            raise UserError(f"--gpus-per-worker {self.gpus_per_worker}: must not be negative")
        for name in ("max_gpu_hours", "max_hours", "trial_hours"):
            hours = getattr(self, name)
            if hours is not None and not 0 < hours < math.inf:
                raise UserError(f"{environment.option(name)} {hours:g}: must be a number above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judging:
    """How models are judged."""

    clips: Annotated[
        int,
        flag(
            "N", int, default=lambda text: f"{ON_CPU}; {ON_GPU[0]} where workers have GPUs" if text == "None" else text
        ),
    ] = UNDECIDED
    """Clips behind each FVD of a trial. 0: no FVD."""
    promotion_clips: Annotated[
        int,
        flag("N", int, default=f"those of --clips; {ON_GPU[1]} where workers have GPUs and --clips is not given"),
    ] = UNDECIDED
    """Clips behind the FVD by which the champion is chosen among the best few."""
    promotion_seeds: Annotated[int, flag("N", int, default=f"1; {ON_GPU[2]} as above")] = UNDECIDED
    """Seeds of generation over which that FVD is a mean."""
    metrics: NoFlag[tuple[str, ...]] = ("fvd",)
    """Metrics of `svgan.metrics.assess` that are measured of a finished trial."""
    precision: NoFlag[Literal["float32", "bfloat16"]]
    """Precision in which the feature network of FVD computes."""

    def __post_init__(self) -> None:
        check_counts(least=0, clips=self.clips, promotion_clips=self.promotion_clips)
        check_counts(promotion_seeds=self.promotion_seeds)
        if self.clips == 1:
            raise UserError("--clips 1: a distance needs at least 2 clips; 0 leaves FVD out")
        if self.promotion_clips == 1:
            raise UserError("--promotion-clips 1: a distance needs at least 2 clips; 0 takes those of --clips")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """Where results are kept."""

    storage: Annotated[str, flag("URI", default=partial(default_text, "storage"))] = default_of("storage", "./runs")
    """Checkpoints, state and logs: a folder or URL that every node can reach."""
    folder: NoFlag[str]
    """The driver's own folder: log, Optuna's storage, plots, the champion's clip."""
    tracking: Annotated[str, flag("URI", default=lambda _: default_text("tracking", "sqlite:///mlflow.db"))] = (
        dataclasses.field(default_factory=default_tracking)
    )
    """MLflow tracking URI."""
    optuna: Annotated[str, flag("URL", default="optuna.db in storage")] = ""
    """Optuna's storage: 'journal' or postgresql://..."""
    experiment: Annotated[str, flag("NAME")] = "svgan"
    """MLflow experiment."""
    on_end: Annotated[str, flag("COMMAND", default=lambda text: text or "none")] = ""
    """Command that a shell runs when the study ends or stops, with the outcome as JSON on its standard input."""
    model: NoFlag[str]
    """Registered model whose versions a promotion adds."""

    def __post_init__(self) -> None:
        for name in ("tracking", "optuna", "storage"):
            check_passwordless(f"--{name}", getattr(self, name))
        if self.optuna not in ("", JOURNAL) and not _DATABASE.match(self.optuna):
            raise UserError(
                f"--optuna {self.optuna}: give 'journal' or a postgresql:// URL; without it a SQLite file is made"
            )


def check_counts(*, least: int = 1, **counts: int | None) -> None:
    """Raises UserError for a count that is too low."""
    for name, value in counts.items():
        if value is not None and value < least:
            raise UserError(f"{environment.option(name)} {value}: must be at least {least}")


PARTS: dict[str, type] = {"search": Search, "data": Data, "compute": Compute, "judging": Judging, "output": Output}
