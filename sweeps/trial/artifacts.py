"""What a trial logs besides figures of training: its generator, clips, contact sheets and FVD."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from svgan.images.domain import Domain
from svgan.io.atomic import write_whole
from svgan.io.video_writer import contact_sheet, write_gif, write_mp4, write_png
from svgan.metrics.names import ACD, FID_LONG, FID_SHORT, FVD_LONG, FVD_LONG_ORIGINAL, FVD_SHORT, FVD_SHORT_ORIGINAL
from svgan.sampling import content_motion
from svgan.sampling.judged_pictures import prepare_for_judges
from svgan.sampling.sampler import Sampler
from svgan.training import checkpoint
from svgan.training.data import Material

if TYPE_CHECKING:
    from svgan.metrics.assess import Judge
    from svgan.metrics.features import Extractor, Kind
    from svgan.metrics.fvd import Progress
    from svgan.metrics.i3d import Precision
    from svgan.metrics.protocol import Protocol
    from sweeps.storage.plan import Plan
    from sweeps.tracking.trial_log import TrialLog

FIGURES = (FVD_SHORT, FVD_LONG, FVD_SHORT_ORIGINAL, FVD_LONG_ORIGINAL)
LOOPS = ("repeat", "recurrence", "still", "norm_drift", "speed", "spectrum", "phi")
BY_METRIC = {
    "fvd": FIGURES,
    "fid": (FID_SHORT, FID_LONG),
    "identity": (ACD, "identity", "faces"),
    "loops": tuple(f"loops/{name}" for name in LOOPS),
}
CLIP_FRAMES, GIF_FRAMES, SHARING = 250, 50, 4


def export_generator(source: Path, target: Path) -> None:
    """Copy the part of a checkpoint that sampling reads: a few hundred kB of what may be hundreds of MB."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(source / checkpoint.TENSORS, "pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys() if name.startswith(checkpoint.SAMPLED)}  # noqa: SIM118
    record = json.loads((source / checkpoint.RECORD).read_text())
    aside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    with write_whole(aside / checkpoint.TENSORS) as written:
        save_file(kept, written)
    record["sha256"] = hashlib.sha256((aside / checkpoint.TENSORS).read_bytes()).hexdigest()
    (aside / checkpoint.RECORD).write_text(json.dumps(record, indent=1))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(aside, target)


def frames_of(
    sampler: Sampler, domain: Domain, clips: int, frames: int, seed: int, progress: Progress | None = None
) -> np.ndarray:
    """Render clips: uint8 [clips, frames, R, R, 3]. progress: told after each piece of frames."""
    pieces, done = [], 0
    for codes in sampler.stream(clips, frames, seed):
        pictures = sampler.render(codes.flatten(0, 1), domain)
        pieces.append(pictures.reshape(clips, codes.shape[1], *pictures.shape[1:]))
        done += codes.shape[1]
        if progress:
            progress("frames of the clip", min(done, frames), frames)
    return np.concatenate(pieces, axis=1)


def log_sheet(log: TrialLog, sampler: Sampler, material: Material, frames: int, seed: int, scratch: Path) -> None:
    """Log a contact sheet of a training window, so that a pruned trial has a picture too."""
    path = scratch / "contact_sheet.png"
    write_png(contact_sheet(frames_of(sampler, material.rendering_domain, 1, frames, seed)[0]), path)
    log.artifacts([path])


def log_clip(
    log: TrialLog, sampler: Sampler, material: Material, seed: int, scratch: Path, progress: Progress | None = None
) -> None:
    """Log a 250-frame clip as MP4, its beginning as GIF, and its contact sheet. For MoCoGAN-HD, log clips that share
    content or motion too.
    """
    domain = material.rendering_domain
    if progress:
        progress("frames of the clip", 0, CLIP_FRAMES)
    frames = frames_of(sampler, domain, 1, CLIP_FRAMES, seed, progress)[0]
    fps = float(sampler.meta.get("fps", 25))
    write_mp4(frames, scratch / "clip.mp4", fps)
    write_gif(frames[:GIF_FRAMES], scratch / "clip.gif", fps)
    write_png(contact_sheet(frames), scratch / "contact_sheet.png")
    log.artifacts([scratch / name for name in ("clip.mp4", "clip.gif", "contact_sheet.png")])
    if content_motion.taken_apart(sampler):
        log.artifacts(
            [path for shared in content_motion.SHARED for path in apart_files(sampler, domain, shared, seed, scratch)]
        )


def apart_files(sampler: Sampler, domain: Domain, shared: str, seed: int, scratch: Path) -> list[Path]:
    """Write clips that share motion, or content, side by side, and a sheet with one row of each."""
    clips = content_motion.clips_sharing(sampler, domain, shared, SHARING, GIF_FRAMES, seed)
    clip, sheet = scratch / f"same_{shared}.mp4", scratch / f"same_{shared}.png"
    write_mp4(np.concatenate(list(clips), axis=2), clip, float(sampler.meta.get("fps", 25)))
    write_png(contact_sheet(clips, GIF_FRAMES // 5), sheet)
    return [clip, sheet]


def score(sampler: Sampler, material: Material, plan: Plan, progress: Progress | None = None) -> dict[str, float]:
    """Measure the four FVD figures and the plan's other metrics. Figures against recorded footage are left out if there
    is none, and so is a figure that is NaN because no face was found.
    """
    sampler = prepare_for_judges(sampler, material)
    short = judge_of(plan, "short", material, progress)
    found = short.measure(sampler, plan.search.seed).values()
    long = judge_of(plan, "long", material, progress, short.extractors)
    found |= long.measure(sampler, plan.search.seed).values()
    return {name: found[name] for name in figures_of(plan) if math.isfinite(found.get(name, math.nan))}


def figures_of(plan: Plan) -> tuple[str, ...]:
    """The names of all figures that a finished trial has."""
    return tuple(name for metric in plan.judging.metrics for name in BY_METRIC[metric])


def judge_of(
    plan: Plan,
    kind: str,
    material: Material,
    progress: Progress | None = None,
    extractors: Mapping[Kind, Extractor] | None = None,
) -> Judge:
    """A judge of the plan's metrics under one protocol, with its real side in the cache.

    Metrics that depend on no protocol go with 'short'. extractors: those of the plan's other judge, to share networks.
    """
    from svgan.metrics.assess import Judge
    from svgan.metrics.fvd import silent
    from svgan.reports.evaluation import WITHOUT_PROTOCOL

    return Judge(
        protocol(kind, plan.judging.clips, plan.judging.precision),
        material.domain,
        material.latents,
        [name for name in plan.judging.metrics if kind == "short" or name not in WITHOUT_PROTOCOL],
        frames=material.recorded,
        strict=False,
        extractors=extractors,
        progress=_named(f"FVD {kind}", progress) if progress else silent,
    )


def _named(what: str, progress: Progress) -> Progress:
    return lambda stage, done, total: progress(f"{what}, {stage}", done, total)


def protocol(kind: str, clips: int, precision: Precision) -> Protocol:
    """The protocol of a study's figures, 'short' or 'long'."""
    from svgan.metrics.protocol import PROTOCOLS

    return dataclasses.replace(PROTOCOLS[f"svg-{kind}"], clips=clips, precision=precision)


def protocols(clips: int, precision: Precision) -> dict[str, str]:
    """The tags `protocol.short` and `protocol.long`: the hashes of the protocols behind the figures."""
    return {f"protocol.{kind}": protocol(kind, clips, precision).hash for kind in ("short", "long")}
