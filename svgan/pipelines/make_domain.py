"""Check, train and complete a domain's folder, for `svgan domain`.

Finished work in the folder stays. A training that was cut continues from its last saved step. Codes and moments of the
same weights are not made again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from svgan.errors import UserError
from svgan.faces.aligned_video import AlignedVideo, align_cached, check_whole
from svgan.faces.alignment import runs
from svgan.images.domain import Domain
from svgan.images.domain_trainer import DomainConfig, kept_steps
from svgan.images.stylegan2 import StyleGAN2Config
from svgan.io.video_reader import survey
from svgan.metrics.domain_report import Progress
from svgan.metrics.protocol import PROTOCOLS
from svgan.pipelines.domain_builder import build_domain
from svgan.pipelines.domain_card import Say, publish

SIZE, STEPS = 64, 5000  # pixels of the pictures; steps where none are asked for
REPORT_EVERY, KEEP_EVERY = 10, 100


def make_domain(
    folder: Path,
    footage: Path,
    others: Sequence[Path] = (),
    *,
    name: str,
    steps: int | None = None,
    sources: str = "",
    pictures: Path | None = None,
    device: torch.device,
    say: Say,
    progress: Progress,
) -> Domain:
    """Train a domain on `footage` (and `others`, one further person each) and complete its folder.

    steps: in all; None: those asked for before, else STEPS. Raises UserError, with nothing written, for a place that
    cannot be a domain's, a video that cannot be used, and footage too short for FVD's windows.
    """
    check_place(folder)
    if pictures is not None:
        check_writable(pictures, "--pictures ")
    for path in (footage, *others):
        check_whole(path)
    wanted = steps_to_train(folder, steps, say)
    subjects = [aligned(path, progress) for path in (footage, *others)]
    longest = max(run.stop - run.start for run in runs(subjects[0].index))
    if longest < (window := PROTOCOLS["svg-short"].frames):
        raise UserError(f"--footage {footage}: {longest} frames on end show one clear face, {window} are needed")
    if wanted:
        build_domain(
            [[video] for video in subjects],
            folder,
            name=name,
            model=StyleGAN2Config(resolution=SIZE, mapping_lr=0.1),
            config=DomainConfig(steps=wanted),
            device=device,
            report=lambda step, values: progress("training", step, wanted),
            report_every=REPORT_EVERY,
            keep_every=KEEP_EVERY,
        )
    return publish(folder, footage, others, sources=sources, pictures=pictures, say=say, progress=progress)


def aligned(path: Path, progress: Progress) -> AlignedVideo:
    total = len(survey(path).pts)
    return align_cached(path, 2 * SIZE, lambda stage, done: progress(f"{path.name}: {stage}", done, total))


def check_place(folder: Path) -> None:
    """Raises UserError unless `folder` is a domain, one in training, or could become one."""
    check_writable(folder)
    if (folder / "domain.json").exists() and "imported" in Domain.load(folder).facts:
        raise UserError(f"{folder}: an imported domain, which svgan domain does not train; give a new folder")
    known = any((folder / name).exists() for name in ("domain.json", "training"))
    if not known and folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds other files than a domain's; give a new folder")


def check_writable(folder: Path, flag: str = "") -> None:
    """Raises UserError if no folder can be made at `folder`."""
    whole = folder.absolute()
    there = next(place for place in (whole, *whole.parents) if place.exists())
    at = "this" if there == whole else str(there)
    if not there.is_dir():
        raise UserError(f"{flag}{folder}: {at} is a file, not a folder; give another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{flag}{folder}: {at} cannot be written; give another place")


def steps_to_train(folder: Path, asked: int | None, say: Say) -> int | None:
    """The step to which the domain in `folder` must be trained; None if it is trained that far."""
    if asked is not None and asked < 1:
        raise UserError(f"--steps {asked}: must be 1 or more")
    done, planned = kept_steps(folder / "training") or (0, 0)
    finished = _finished_steps(folder)
    wanted = asked or max(planned, finished) or STEPS
    if finished and wanted <= finished:
        say(f"{folder}: trained for {finished} steps already; to go on, give --steps a larger number")
        return None
    if finished > done:
        raise UserError(
            f"--steps {wanted}: {folder} was trained for {finished} and its training/ is gone, so it cannot go on; "
            "leave --steps out, or give a new folder"
        )
    return max(wanted, done)


def _finished_steps(folder: Path) -> int:
    """The training steps of the weights in `folder`, 0 if there are none."""
    if not (folder / "domain.json").exists():
        return 0
    return int(Domain.load(folder).facts.get("training", {}).get("steps", 0))
