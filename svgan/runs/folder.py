"""The files of a run folder, and the record of the run: what `svgan train` was asked for.

run.json            the configuration, where domain and codes lie, their digests
checkpoints/        step-00000100, ...: the last two, and the one of lowest latent_fd
figures.json        the figures of every report
clip.mp4            made by the best checkpoint at the end, with contact_sheet.png
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.io import storage
from svgan.io.atomic import write_whole
from svgan.training import recipes, registry
from svgan.training.config import RunConfig
from svgan.training.data import BESIDE

RECORD, CHECKPOINTS, FIGURES = "run.json", "checkpoints", "figures.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run folder remembers. domain: 'default' or a folder, of the footage; latents: a path or URL; both for the
    record. pictures: the domain that renders, where it is another one. footage: the videos behind the codes, or BESIDE,
    where their recorded frames are learned from."""

    config: RunConfig
    domain: str
    latents: str
    report_every: int
    pictures: str | None = None
    footage: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        write_json(folder / RECORD, {**asdict(self), "config": self.config.to_json()})

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Raises UserError when `folder` holds no run."""
        path = folder / RECORD
        try:
            values = json.loads(path.read_text())
            own = {"config": registry.read_config(values["config"]), "footage": tuple(values.get("footage", ()))}
            return cls(**{**values, **own})
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{folder}: no run here ({RECORD} is missing); give a folder of svgan train") from error
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: not a run's record ({error}); restore it, or start another run") from error


def plan_run(
    out: Path,
    recipe: str | None,
    overrides: dict[str, Any],
    *,
    domain: str | None,
    latents: str | None,
    report_every: int | None,
    resume: bool,
    pictures: str | None = None,
    footage: Sequence[str] | None = None,
) -> Run:
    """The run that the flags ask for; with `resume`, the one in `out`, the flags given put over its own.

    Raises UserError for bad values, an `out` that is taken, and a resumed run that is not there.
    """
    videos = None if footage is None else tuple(str(Path(video).resolve()) for video in footage) or (BESIDE,)
    if resume:
        known = Run.load(out)
        if recipe not in (None, known.config.recipe):
            raise UserError(f"--recipe {recipe}: the run to be resumed is of {known.config.recipe}; leave it out")
        run = Run(
            config=registry.read_config({**known.config.to_json(), **overrides}),
            domain=known.domain if domain is None else _named(domain),
            latents=known.latents if latents is None else _absolute(latents),
            report_every=known.report_every if report_every is None else report_every,
            pictures=known.pictures if pictures is None else _named(pictures),
            footage=known.footage if videos is None else videos,
        )
    else:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"--out {out}: exists already; give a new folder, or --resume to go on with a run in it")
        config = recipes.make(recipe or "tiny", **overrides)
        where = _absolute(latents) if latents else Domain.load(domain or "default").latents_uri
        every = max(1, config.steps // 20) if report_every is None else report_every
        run = Run(
            config=config,
            domain=_named(domain),
            latents=where,
            report_every=every,
            pictures=None if pictures is None else _named(pictures),
            footage=videos or (),
        )
    if run.report_every < 1:
        raise UserError(f"--report-every {run.report_every}: must be 1 or more")
    return run


def _named(domain: str | None) -> str:
    return "default" if domain in (None, "default") else str(Path(str(domain)).resolve())


def _absolute(uri: str) -> str:
    return str(storage.local_path(uri).resolve()) if storage.is_local(uri) else uri


def write_json(path: Path, value: Any) -> None:
    with write_whole(path) as aside:
        aside.write_text(json.dumps(value, indent=1) + "\n")
