"""A study's settings: read from flags, checked, and kept as JSON beside the study so that `--resume` remembers them."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from svgan.cli import Parser
from svgan.errors import UserError
from svgan.io.atomic import whole
from sweeps.storage import environment
from sweeps.storage.environment import check_passwordless, on_cluster, shown

FORMAT = 1
PLAN_FILE = "study.json"
JOURNAL = "journal"
AT_LEAST_ONE = ("trials", "steps", "workers", "concurrency", "seeds", "promotion_seeds")
LEAST = {"clips": 0, "promotion_clips": 0} | dict.fromkeys(AT_LEAST_ONE, 1)
# The ladder of docs/metrics.md: clips of a trial's FVD; on a GPU also a champion's, and over how many seeds.
ON_CPU, ON_GPU = 64, (256, 2048, 3)
# What a study may minimise, each with the figure of a finished trial that stands for it.
OBJECTIVES = {"latent_fd": "latent_fd_best", "fvd_short": "fvd_short", "fvd_long": "fvd_long"}
_REMOTE = re.compile(r"^[a-z][a-z0-9+.-]+://")
_DATABASE = re.compile(r"^postgresql(\+psycopg)?://")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a study's driver, trials and workers must agree on. Flat, JSON-able, no handles.

    `folder` is where the driver keeps its own files (log, Optuna's storage, plots, champion's clip); `storage` is where
    Ray Train keeps checkpoints, a path or URL that every node can reach. `lengths` are the steps of each trial, and not
    `steps`, where an equal time, `seconds`, was asked for. `pictures` is the domain that renders, where it is not the
    footage's; with `footage`, frames are the recorded ones that lie beside the codes.
    """

    study: str
    name: str
    recipe: str
    metric: str
    domain: str
    controls: int
    trials: int
    steps: int
    workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    concurrency: int
    latents: str
    storage: str
    folder: str
    tracking: str
    experiment: str
    model: str
    seed: int
    clips: int
    precision: Literal["float32", "bfloat16"]
    reports: int
    rungs: tuple[int, ...]
    reduction: int
    objective: str = "latent_fd_best"
    patience: float = 15.0
    digests: tuple[tuple[str, str], ...] = ()
    optuna: str = ""
    objectives: tuple[str, ...] = ()
    seeds: int = 1
    promotion_clips: int = 0
    promotion_seeds: int = 1
    grid: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    max_gpu_hours: float | None = None
    metrics: tuple[str, ...] = ("fvd",)
    seconds: float | None = None
    lengths: tuple[int, ...] = ()
    pictures: str = ""
    footage: bool = False

    def __post_init__(self) -> None:
        check_asked(vars(self))
        if not self.patience > 0:
            raise UserError(f"--patience {self.patience:g}: minutes without a step, so more than 0")
        if self.gpus_per_worker < 0:
            raise UserError(f"--gpus-per-worker {self.gpus_per_worker}: must not be negative")
        if self.max_gpu_hours is not None and not 0 < self.max_gpu_hours < math.inf:
            raise UserError(f"--max-gpu-hours {self.max_gpu_hours:g}: must be a number above 0")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UserError(f"--seconds {self.seconds:g}: must be a number above 0")
        if self.seconds is not None and self.trials != self.controls:
            raise UserError(
                f"--seconds {self.seconds:g}: trials that are still to be proposed cannot be timed beforehand; give "
                "--steps, or a --grid"
            )
        if self.clips == 1:
            raise UserError("--clips 1: a distance needs at least 2 clips; 0 leaves FVD out")
        if self.promotion_clips == 1:
            raise UserError("--promotion-clips 1: a distance needs at least 2 clips; 0 takes those of --clips")
        self._check_objectives()
        if self.seeds > 1 and "seed" in self.grid:
            raise UserError(f"--grid seed: with --seeds {self.seeds} every trial has seeds of its own; leave one out")
        if self.optuna not in ("", JOURNAL) and not _DATABASE.match(self.optuna):
            raise UserError(
                f"--optuna {self.optuna}: give 'journal' or a postgresql:// URL; without it a SQLite file is made"
            )
        if self.grid and self.trials != (points := math.prod(map(len, self.grid.values()))):
            raise UserError(f"--trials {self.trials}: the grid has {points} points, a trial each; leave --trials out")
        if self.trials < self.controls:
            raise UserError(
                f"--trials {self.trials}: this study has {self.controls} controls that always run; ask for as many"
            )

    def _check_objectives(self) -> None:
        if unknown := [name for name in self.objectives if name not in OBJECTIVES]:
            raise UserError(f"--objectives {unknown[0]}: is not measured; give two or more of {', '.join(OBJECTIVES)}")
        if self.objectives and len(set(self.objectives)) < max(2, len(self.objectives)):
            raise UserError(
                f"--objectives {','.join(self.objectives)}: give two or more different ones; one alone is latent_fd, "
                "which goes without the flag"
            )
        if not self.clips and any(name.startswith("fvd") for name in self.objectives):
            raise UserError(f"--objectives {','.join(self.objectives)}: FVD needs clips, and --clips is 0; give 64")

    @property
    def told(self) -> tuple[str, ...]:
        """The keys of a finished trial's figures that Optuna is told."""
        return tuple(OBJECTIVES[name] for name in self.objectives) or (self.objective,)

    @property
    def tags(self) -> dict[str, str]:
        """Digests of what the figures depend on: git commit, package, latents, domain, protocols."""
        return dict(self.digests)

    def length(self, number: int) -> int:
        """Steps of a whole trial."""
        return self.lengths[number] if self.lengths else self.steps

    def trial_name(self, number: int) -> str:
        """The fixed name of a trial's Ray Train run; a restart under it continues from its checkpoint."""
        return f"{self.name}/train-{number:04d}"

    @property
    def scratch(self) -> Path:
        """Where workers on a machine put files while they run; a killed one leaves them to the sweep's end.

        Studies of one name in two storages have two.
        """
        place = hashlib.sha256(f"{self.storage}\0{self.folder}".encode()).hexdigest()[:8]
        return Path(tempfile.gettempdir(), f"svgan-{os.getuid()}-{self.name}-{place}")

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Plan:
        fields = dict(fields)
        version = fields.pop("format", None)
        if version != FORMAT:
            raise UserError(f"study file of format {version}: this version reads format {FORMAT}")
        fields["rungs"] = tuple(fields["rungs"])
        for name in ("objectives", "metrics", "lengths"):
            if name in fields:
                fields[name] = tuple(fields[name])
        fields["digests"] = tuple((key, value) for key, value in fields["digests"])
        return cls(**fields)

    def save(self) -> None:
        """Write `study.json` into the study's folder, whole or not at all."""
        with whole(Path(self.folder, PLAN_FILE)) as aside:
            aside.write_text(json.dumps(self.to_json(), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Plan:
        path = folder / PLAN_FILE
        try:
            fields = json.loads(path.read_text())
            if not isinstance(fields, dict):
                raise ValueError("not an object")
            return cls.from_json(fields)
        except FileNotFoundError:
            raise UserError(f"{path}: no such study; check its name and --storage") from None
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}: unreadable study file ({error}); start the study anew under another --name"
            ) from None


def check_asked(values: Mapping[str, Any]) -> None:
    """Raises UserError for a name that cannot be a folder's, for a count, of a plan or of the flags asked for, that is
    too low, and for a URL that holds a password; None is not asked for."""
    if (name := values.get("name")) is not None and not _NAME.match(name):
        raise UserError(f"--name {name!r}: use up to 80 letters, digits, '.', '_' or '-'")
    for name, least in LEAST.items():
        if values[name] is not None and values[name] < least:
            raise UserError(f"--{name.replace('_', '-')} {values[name]}: must be at least {least}")
    for name in ("tracking", "optuna", "storage", "latents"):
        check_passwordless(f"--{name}", values[name] or "")


def judged_on(asked: argparse.Namespace, gpu: bool) -> tuple[int, int, int]:
    """Clips behind a trial's FVD, those behind a champion's, and over how many seeds: as asked, else what a CPU, or a
    GPU, does in minutes. Asking for --clips is asking for no more than these at a promotion."""
    clips, many, seeds = ON_GPU if gpu and asked.clips is None else (ON_CPU, 0, 1)
    return (
        clips if asked.clips is None else asked.clips,
        many if asked.promotion_clips is None else asked.promotion_clips,
        seeds if asked.promotion_seeds is None else asked.promotion_seeds,
    )


def absolute(location: str) -> str:
    """A path made absolute (workers run elsewhere); a URL unchanged, but for a relative `sqlite:///` one."""
    if location.startswith("sqlite:///"):
        return "sqlite:///" + str(Path(location.removeprefix("sqlite:///")).absolute())
    if location.startswith("file:"):
        return location
    return location if _REMOTE.match(location) else str(Path(location).expanduser().absolute())


def is_remote(location: str) -> bool:
    return bool(_REMOTE.match(location)) and not location.startswith("file:")


def study_folder(storage: str, name: str) -> Path:
    """The driver's own folder of a study: inside a local storage, else under ./runs."""
    return Path("runs" if is_remote(storage) else absolute(storage).removeprefix("file://"), name).absolute()


def resume_command(plan: Plan) -> str:
    """The command that finishes a study which was stopped or cut, by the file that is running, if a study's is."""
    if environment.launched():
        return f"ray submit {environment.yaml()} sweeps/{plan.study}.py -- --resume {plan.name}"
    if on_cluster():
        again = f"kubectl delete rayjob svgan-{plan.study}; kubectl apply -f {environment.yaml()}"
        return f"{again}  # its entrypoint with --resume {plan.name}"
    script = Path(sys.argv[0])
    file = script if script.suffix == ".py" and script.name != "__main__.py" else f"sweeps/{plan.study}.py"
    usual = study_folder(absolute("./runs"), plan.name) == Path(plan.folder)
    return f"python {file} --resume {plan.name}" + ("" if usual else f" --storage {plan.storage}")


def default_tracking() -> str:
    """MLFLOW_TRACKING_URI, or MLflow's own default in the working folder."""
    uri = absolute(environment.default("tracking", "sqlite:///mlflow.db"))
    check_passwordless("MLFLOW_TRACKING_URI", uri)
    return uri


def fresh_name(study: str) -> str:
    return f"{study}-{time.strftime('%Y%m%d-%H%M%S')}"


def parser(
    study: str, doc: str, *, trials: int, steps: int, clips: int | None, seconds: float | None = None, seeds: int = 1
) -> argparse.ArgumentParser:
    """The flags of every study file; their set is frozen by a test."""
    p = Parser(prog=f"sweeps/{study}.py", description=doc)
    counts: dict[str, Any] = {"type": int, "metavar": "N"}
    ask = p.add_argument_group("what to run")
    ask.add_argument("--trials", **counts, help=f"trials, controls included [{trials}; with --grid, its points]")
    ask.add_argument("--steps", default=steps, **counts, help="generator steps of a whole trial [%(default)s]")
    ask.add_argument(
        "--seconds",
        default=seconds,
        type=float,
        metavar="X",
        help="of training, in place of steps: each trial, all of them controls or of a grid, has as many steps as take "
        f"so long by a timing beforehand [{'as many as --steps' if seconds is None else f'{seconds:g}'}]",
    )
    usual = f"{ON_CPU}; {ON_GPU[0]} where workers have GPUs" if clips is None else clips
    ask.add_argument("--clips", default=clips, **counts, help=f"clips behind each FVD; 0: no FVD [{usual}]")
    ask.add_argument("--seed", default=0, **counts, help="of the search and of every trial [%(default)s]")
    ask.add_argument(
        "--grid",
        nargs="*",
        metavar="FIELD=V,V",
        help="every point of a grid in place of a search, each whole, as in gap_weight=0,1,10 [alone: the study's]",
    )
    ask.add_argument(
        "--objectives",
        metavar="A,B",
        help=f"several to minimise at once, towards their Pareto front: of {', '.join(OBJECTIVES)}",
    )
    ask.add_argument(
        "--seeds",
        default=seeds,
        **counts,
        help="of each trial, trained in turn: it is judged by their mean [%(default)s]",
    )
    ask.add_argument(
        "--promotion-clips",
        **counts,
        help="clips behind the figure by which the champion is chosen among the best few [those of --clips; "
        f"{ON_GPU[1]} where workers have GPUs and --clips is not given]",
    )
    ask.add_argument(
        "--promotion-seeds", **counts, help=f"of generation, over which that figure is a mean [1; {ON_GPU[2]} as above]"
    )
    ask.add_argument(
        "--latents",
        default=environment.default("latents"),
        metavar="URI",
        help=f"W+ shards: a folder or URL [{shown('latents', 'those of the domain')}]",
    )
    ask.add_argument(
        "--domain", metavar="DIR", help="what renders: a domain's folder, at the same place on every node [the study's]"
    )
    ask.add_argument(
        "--pictures", metavar="DIR", help="another domain, whose pictures are to move (cross-domain recipes) [none]"
    )
    ask.add_argument(
        "--footage",
        action="store_true",
        help="recipes of frames see the recorded ones, kept beside the codes by svgan embed --frames [what codes "
        "render]",
    )
    size = p.add_argument_group("on what")
    size.add_argument(
        "--workers",
        default=environment.default("workers", 1),
        **counts,
        help=f"DDP workers of a trial [{shown('workers', 1)}]",
    )
    size.add_argument(
        "--gpus-per-worker",
        default=environment.default("gpus_per_worker"),
        type=float,
        metavar="X",
        help=f"[{shown('gpus_per_worker', 'a share of the GPUs there are, else 0')}]",
    )
    size.add_argument(
        "--concurrency",
        **counts,
        help=f"trials at a time [as CPUs, GPUs and memory allow; at most {shown('concurrency', 'any')}]",
    )
    size.add_argument(
        "--max-gpu-hours",
        type=float,
        metavar="X",
        help="GPU-hours, or core-hours where trials have no GPU, after which the study stops, to be resumed with more "
        f"[{shown('max_gpu_hours', 'none')}]",
    )
    size.add_argument(
        "--patience",
        type=float,
        default=15.0,
        metavar="MIN",
        help="minutes without a step after which a worker is killed and started again [%(default)g]",
    )
    keep = p.add_argument_group("where it is kept")
    keep.add_argument(
        "--storage",
        default=environment.default("storage", "./runs"),
        metavar="URI",
        help=f"checkpoints, state and logs [{shown('storage', './runs')}]",
    )
    keep.add_argument("--tracking", metavar="URI", help=f"MLflow [{shown('tracking', 'sqlite:///mlflow.db')}]")
    keep.add_argument(
        "--optuna", default="", metavar="URL", help="its record: 'journal' or postgresql://... [optuna.db in storage]"
    )
    keep.add_argument("--experiment", default="svgan", metavar="NAME", help="MLflow experiment [%(default)s]")
    keep.add_argument("--name", metavar="NAME", help="of this run of the study [the study's, with date and time]")
    keep.add_argument(
        "--resume",
        metavar="NAME",
        help="finish the study of that name: done trials stay, cut ones go on (flags remembered)",
    )
    return p
