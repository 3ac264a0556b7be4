"""A study's settings: checked, and kept as JSON beside the study so that `--resume` remembers them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from svgan.errors import UserError
from svgan.io.atomic import write_whole
from svgan.metrics.names import FVD_LONG, FVD_SHORT, LATENT_FD
from sweeps.storage.environment import check_passwordless
from sweeps.storage.metric_names import LATENT_FD_BEST

FORMAT = 1
PLAN_FILE = "study.json"
JOURNAL = "journal"
AT_LEAST_ONE = ("trials", "steps", "workers", "concurrency", "seeds", "promotion_seeds")
LEAST = {"clips": 0, "promotion_clips": 0} | dict.fromkeys(AT_LEAST_ONE, 1)
# What a study may minimise, each with the figure of a finished trial that stands for it.
OBJECTIVES = {LATENT_FD: LATENT_FD_BEST, FVD_SHORT: FVD_SHORT, FVD_LONG: FVD_LONG}
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
    objective: str = LATENT_FD_BEST
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
        with write_whole(Path(self.folder, PLAN_FILE)) as aside:
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
