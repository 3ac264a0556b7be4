"""A run folder, and what `svgan train` does in it.

run.json            the configuration, where domain and codes lie, their digests
checkpoints/        step-00000100, ...: the last two, and the one of lowest latent_fd
figures.json        the figures of every report
clip.mp4            made by the best checkpoint at the end, with contact_sheet.png
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.io import storage
from svgan.io.atomic import whole
from svgan.latents.shards import open_latents
from svgan.latents.stats import Space
from svgan.sampling.sampler import Sampler
from svgan.training import recipes, registry
from svgan.training.checkpoint_manager import FolderKeeper
from svgan.training.config import RunConfig
from svgan.training.data import BESIDE, Material
from svgan.training.loop import train
from svgan.training.registry import Source
from svgan.training.reporter import Reporter
from svgan.training.state import State

RECORD, CHECKPOINTS, FIGURES = "run.json", "checkpoints", "figures.json"
JUDGED_CLIPS = 256  # windows on either side of the latent distance
RENDERED_CLIPS = 64  # generated ones, where they are rendered for it
CLIP_FRAMES = 250
LARGE, FEW = 256, 25  # pixels above which a CPU takes seconds a frame, and the clip's length then


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
        _write_json(folder / RECORD, {**asdict(self), "config": self.config.to_json()})

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Raises UserError when `folder` holds no run."""
        path = folder / RECORD
        try:
            values = json.loads(path.read_text())
            own = {"config": RunConfig.from_json(values["config"]), "footage": tuple(values.get("footage", ()))}
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
            config=RunConfig.from_json({**known.config.to_json(), **overrides}),
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
        shown = None if pictures is None else _named(pictures)
        run = Run(
            config=config,
            domain=_named(domain),
            latents=where,
            report_every=every,
            pictures=shown,
            footage=videos or (),
        )
    if run.report_every < 1:
        raise UserError(f"--report-every {run.report_every}: must be 1 or more")
    return run


def _named(domain: str | None) -> str:
    return "default" if domain in (None, "default") else str(Path(str(domain)).resolve())


def _absolute(uri: str) -> str:
    return str(storage.local_path(uri).resolve()) if storage.is_local(uri) else uri


def carry_out(run: Run, out: Path, *, reporter: Reporter, device: torch.device) -> State:
    """Train `run` in the folder `out` from its last checkpoint, if there is one. Everything is checked before `out` is
    touched."""
    material = Material.open(run.domain, run.latents, pictures=run.pictures, videos=run.footage)
    source = registry.source(run.config, material, device)
    keeper = FolderKeeper(out / CHECKPOINTS)
    state = keeper.latest(device)
    if state is not None:
        if state.meta.get("latents") != material.meta["latents"]:
            raise UserError(f"--latents {run.latents}: not the codes that the run in {out} was trained on; give those")
        if state.meta.get("domain", material.shown.digest) != material.shown.digest:
            raise UserError(f"--pictures {run.pictures}: not what the run in {out} renders with; leave it out")
        state.continues(run.config)
        if run.config.steps < state.step:
            raise UserError(
                f"--steps {run.config.steps}: the run in {out} is at step {state.step} already; give more, or none"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
        run.save(out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot write ({error.strerror}); give another folder") from error
    return train(
        run.config,
        source,
        state=state,
        meta=material.meta,
        reporter=WithFigures(reporter, out / FIGURES),
        keeper=keeper,
        evaluate=latent_judge(source, run.config.seed, material),
        report_every=run.report_every,
        device=device,
    )


class WithFigures:
    """A reporter that also keeps the state's history of figures as JSON, a resumed run's from its start."""

    def __init__(self, inner: Reporter, path: Path):
        self.inner, self.path = inner, path

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        _write_json(self.path, state.history)
        self.inner.report(step, metrics, state)


def latent_judge(source: Source, seed: int, material: Material | None = None) -> Callable[[State], dict[str, float]]:
    """latent_fd at a report: the distance between windows of real codes and of generated ones.

    material: needed where the footage's domain does not render, so that its encoder reads the pictures; fewer clips are
    judged then. Of another domain's pictures it is the distance of their movements alone, each clip's mean code taken
    off on either side, for who is shown is another (ours).
    """
    from svgan.metrics.latent import LatentDistance

    apart = material is not None and material.pictures is not None
    judged: Space | None = getattr(source, "judged", None) if apart else None

    def compared(windows: Tensor) -> Tensor:
        return windows - windows.mean(1, keepdim=True) if apart else windows

    distance = LatentDistance(compared(source.windows(JUDGED_CLIPS, seed)))

    def judge(state: State) -> dict[str, float]:
        sampler = Sampler.of(state)
        if material is None:
            windows = sampler.coordinates(JUDGED_CLIPS, source.window, seed)
        else:
            sampler = material.pictured(sampler)
            clips = JUDGED_CLIPS if sampler.painter is None else RENDERED_CLIPS
            windows = sampler.coordinates(clips, source.window, seed, material.domain, judged)
        return {"latent_fd": distance(compared(windows))}

    return judge


def checkpoint_of(path: Path) -> Path:
    """The checkpoint that `path` means: itself, or the best one of a run folder."""
    if (path / RECORD).exists():
        best = FolderKeeper(path / CHECKPOINTS).best()
        if best is None:
            raise UserError(f"{path}: this run has no checkpoint yet; wait for its first report, or resume it")
        return best
    return path


def run_of(path: Path) -> Run | None:
    """The run of a folder or of a checkpoint in it; None for a checkpoint that lies elsewhere."""
    for folder in (path, path.parent.parent):
        if (folder / RECORD).exists():
            return Run.load(folder)
    return None


def domain_of(path: Path, given: str | None) -> str:
    """The domain to render a checkpoint with: the one given, else its run's, else the default."""
    run = run_of(path)
    return given or ("default" if run is None else run.pictures or run.domain)


def latents_of(path: Path, given: str | None, domain: Domain) -> str:
    """The codes that a checkpoint was trained on: those given, else its run's, else the domain's own."""
    run = run_of(path)
    return given or (domain.latents_uri if run is None else run.latents)


def load_pair(path: Path, domain_name: str | None, device: torch.device) -> tuple[Sampler, Domain]:
    """The sampler of a run folder or checkpoint, and its domain. Raises UserError when they do not belong together."""
    sampler = Sampler.load(checkpoint_of(path), device)
    name = domain_of(path, domain_name)
    domain = Domain.load(name, device)
    theirs = sampler.meta.get("domain")
    if theirs != domain.digest:
        raise UserError(f"{path}: trained on codes of domain {theirs}, {name!r} is {domain.digest}; give its --domain")
    return sampler, domain


def load_judged(
    path: Path,
    domain_name: str | None,
    latents: str | None,
    footage: Sequence[str] | None,
    device: torch.device,
) -> tuple[Sampler, Material]:
    """The sampler of a run folder or checkpoint as the judges take it, and what it is measured against: the codes
    given, else its run's; footage: the videos behind them, none named being those kept beside the codes."""
    sampler, shown = load_pair(path, domain_name, device)
    run = run_of(path)
    pair = run is not None and run.pictures is not None
    domain = Domain.load(run.domain, device) if run is not None and pair else shown
    codes = open_latents(latents_of(path, latents, domain), domain=domain.digest)
    videos = () if footage is None else tuple(map(str, footage)) or (BESIDE,)
    material = Material(domain=domain, latents=codes, pictures=shown if pair else None, videos=videos)
    return material.pictured(sampler), material


def pick_device(name: str) -> torch.device:
    """'auto' is a GPU where there is one. Raises UserError for a device this machine does not have."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros((), device=name).device
    except (RuntimeError, AssertionError) as error:
        kind = name.partition(":")[0]
        reason = f"{torch.cuda.device_count()} GPUs are seen" if kind == "cuda" else "unknown, or not of this torch"
        raise UserError(f"--device {name}: not usable here ({reason}); use cpu, cuda or auto") from error


def _write_json(path: Path, value: Any) -> None:
    with whole(path) as aside:
        aside.write_text(json.dumps(value, indent=1) + "\n")


def show(out: Path, device: torch.device) -> Path:
    """A clip and a contact sheet by the run's best checkpoint; returns the clip's path."""
    from svgan.io import video_writer as video
    from svgan.sampling import render

    sampler, domain = load_pair(out, None, device)
    slow = device.type == "cpu" and domain.config.resolution > LARGE
    frames = np.stack(list(render.frames(sampler, domain, length=FEW if slow else CLIP_FRAMES)))
    video.write_mp4(frames, out / "clip.mp4", sampler.meta["fps"])
    video.write_png(video.contact_sheet(frames), out / "contact_sheet.png")
    return out / "clip.mp4"
