"""`svgan train` in a run folder: train from the last checkpoint if there is one, then render a clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from svgan.errors import UserError
from svgan.io import video_writer
from svgan.runs.folder import CHECKPOINTS, FIGURES, Run, write_json
from svgan.runs.loading import load_pair
from svgan.runs.validation import latent_judge
from svgan.sampling import render
from svgan.training import registry
from svgan.training.checkpoint_manager import FolderKeeper
from svgan.training.data import Material
from svgan.training.loop import train
from svgan.training.reporter import Reporter
from svgan.training.state import State

CLIP_FRAMES = 250
LARGE, FEW = 256, 25  # pixels above which a CPU takes seconds a frame, and the clip's length then


def train_run(run: Run, out: Path, *, reporter: Reporter, device: torch.device) -> State:
    """Train `run` in the folder `out`, from its last checkpoint if there is one.

    Raises UserError for material or a checkpoint that does not fit the run; `out` is then as it was.
    """
    material = Material.open(run.domain, run.latents, pictures=run.pictures, videos=run.footage)
    source = registry.make_source(run.config, material, device)
    keeper = FolderKeeper(out / CHECKPOINTS)
    state = keeper.latest(device)
    if state is not None:
        if state.meta.get("latents") != material.meta["latents"]:
            raise UserError(f"--latents {run.latents}: not the codes that the run in {out} was trained on; give those")
        if state.meta.get("domain", material.rendering_domain.digest) != material.rendering_domain.digest:
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
    """A reporter that also writes the state's history of figures as JSON; after a resume it starts at step 0."""

    def __init__(self, inner: Reporter, path: Path):
        self.inner, self.path = inner, path

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        write_json(self.path, state.history)
        self.inner.report(step, metrics, state)


def write_sample(out: Path, device: torch.device) -> Path:
    """Write a clip and a contact sheet of the run's best checkpoint; return the clip's path."""
    sampler, domain = load_pair(out, None, device)
    slow = device.type == "cpu" and domain.config.resolution > LARGE
    frames = np.stack(list(render.frames(sampler, domain, length=FEW if slow else CLIP_FRAMES)))
    video_writer.write_mp4(frames, out / "clip.mp4", sampler.meta["fps"])
    video_writer.write_png(video_writer.contact_sheet(frames), out / "contact_sheet.png")
    return out / "clip.mp4"
