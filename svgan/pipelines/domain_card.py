"""The model card of a domain: measure its figures, make its codes and real-side moments, and write its README.

`svgan domain` runs this on a trained folder. Footage is read from where it lies and never copied there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from svgan.errors import UserError
from svgan.faces.aligned_video import align_cached
from svgan.faces.crops import shrink, split
from svgan.faces.original_frames import crop_size
from svgan.images.domain import Domain
from svgan.io.atomic import disk_errors, write_whole
from svgan.io.video_writer import write_png
from svgan.latents.manifest import Manifest
from svgan.latents.shards import open_latents
from svgan.metrics import fvd, inception
from svgan.metrics.domain_report import (
    LEAST_FACES,
    Progress,
    as_facts,
    pairs_sheet,
    random_subjects,
    reconstruction,
)
from svgan.metrics.identity import FaceReader, typical_descriptor
from svgan.pipelines.embed import Watcher, embed

Say = Callable[[str], None]

# The least (or most) that figures on held-out frames must reach: name, where the figure lies, the bound, its text.
FLOORS = (
    ("PSNR inside the face", ("Reconstruction", "psnr_face"), 25.0, "{:.1f} dB"),
    ("correlation of mouth opening", ("Reconstruction", "mouth"), 0.8, "{:.2f}"),
    ("correlation of eye opening", ("Reconstruction", "eyes"), 0.6, "{:.2f}"),
    ("correlation of head yaw", ("Reconstruction", "yaw"), 0.9, "{:.2f}"),
    ("random subjects that are one of the people", ("RandomSubjects", "known"), 0.9, "{:.0%}"),
)
CROWDING = 0.1


def publish(
    folder: Path,
    footage: Path,
    others: Sequence[Path] = (),
    *,
    sources: str = "",
    pictures: Path | None = None,
    say: Say = lambda text: None,
    progress: Progress = lambda stage, done, total: None,
) -> Domain:
    """Make latents/, moments/, figures and card of the domain in `folder`, from its own footage.

    others: videos of further subjects, for the identities of random subjects. pictures: the folder for the sheet of
    frames beside their reconstructions, which shows footage and so stays out of the domain's folder. sources: a
    paragraph for the card.
    """
    embed_footage(folder, footage, say=say, progress=progress)
    return describe(folder, footage, others, sources=sources, pictures=pictures, say=say, progress=progress)


def embed_footage(folder: Path, footage: Path, *, say: Say, progress: Progress) -> None:
    """Make latents/ and moments/. Results for the same weights and codes are kept."""
    domain = Domain.load(folder)
    video = align_cached(footage, crop_size(domain), lambda stage, done: progress(stage, done, 0))
    say(f"embedding {footage.name}")
    aside = folder / "latents.new"
    shutil.rmtree(aside, ignore_errors=True)
    made = embed([footage], domain, aside, watcher=_Forward(progress)).manifest
    with disk_errors(folder):
        if same_codes(folder / "latents", made):
            shutil.rmtree(aside)
        else:
            shutil.rmtree(folder / "latents", ignore_errors=True)
            os.replace(aside, folder / "latents")
    latents = open_latents(domain.latents_uri, domain=domain.digest)
    say("the real side of FVD, against codes and original frames")
    fvd.ship(domain, latents, shrink(video.crops, domain.config.resolution), progress=progress)


def same_codes(folder: Path, made: Manifest) -> bool:
    """Whether the latents in `folder` hold the codes of `made`. Their axes may differ in the last bit."""
    try:
        kept = open_latents(folder).manifest
    except UserError:
        return False
    return dataclasses.replace(kept, stats=made.stats) == made


class _Forward(Watcher):
    def __init__(self, progress: Progress):
        self.progress = progress

    def stage(self, video: str, stage: str, done: int, total: int) -> None:
        self.progress(stage, done, total)


def describe(
    folder: Path,
    footage: Path,
    others: Sequence[Path],
    *,
    sources: str,
    pictures: Path | None,
    say: Say,
    progress: Progress,
) -> Domain:
    """Measure the domain on held-out frames and random subjects; write figures, pictures and card."""
    domain = Domain.load(folder)
    facts, originals, rebuilt, subjects = _measured(domain, footage, others, say, progress)
    if pictures is not None:
        write_png(pairs_sheet(originals, rebuilt), pictures / "reconstructions_beside_footage.png")
    write_card(folder, facts, sources, rebuilt, subjects)
    return Domain.load(folder)


def _measured(
    domain: Domain, footage: Path, others: Sequence[Path], say: Say, progress: Progress
) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]:
    """Figures; held-out frames, their reconstructions, and random subjects, each uint8 [N, R, R, 3]."""
    size = crop_size(domain)
    videos = [align_cached(path, size, lambda stage, done: progress(stage, done, 0)) for path in (footage, *others)]
    frames = shrink(videos[0].crops, domain.config.resolution)
    trained, held = split(videos[0])
    reader = FaceReader()
    say(f"reconstructing {held.stop - held.start} held-out frames")
    rebuilt_figures, originals, rebuilt = reconstruction(domain, videos[0].part(held), reader, progress)
    people = np.stack([_person(video.crops, reader) for video in videos])
    training = np.concatenate([frames[trained], *(shrink(v.crops, domain.config.resolution) for v in videos[1:])])
    say("random subjects")
    subject_figures, subjects = random_subjects(domain, training, people, reader)
    facts = as_facts(rebuilt_figures, subject_figures)
    say("FID of the reconstructions")
    facts["Reconstruction"]["fid"] = round(_fid(originals, rebuilt), 2)
    return facts, originals, rebuilt, subjects


def write_card(folder: Path, facts: dict[str, Any], sources: str, rebuilt: np.ndarray, subjects: np.ndarray) -> None:
    """Write two sheets of pictures, then figures and README together, into a domain's folder, atomically.

    rebuilt, subjects: uint8 [N, R, R, 3], of which some are used. Raises UserError on a full disk.
    """
    domain = Domain.load(folder)
    write_png(pairs_sheet(rebuilt, rebuilt, columns=10, rows=2), folder / "reconstructions.png")
    write_png(_grid(subjects[:40], 10), folder / "subjects.png")
    record = json.loads((folder / "domain.json").read_text()) | {"figures": facts, "sources": sources}
    codes = open_latents(domain.latents_uri, domain=domain.digest).digest
    with disk_errors(folder), write_whole(folder / "domain.json") as figures, write_whole(folder / "README.md") as page:
        figures.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        page.write_text(card(record, domain, codes))


def card(facts: dict[str, Any], domain: Domain, latents_digest: str) -> str:
    """The README of a domain folder."""
    config, training, figures = domain.config, facts.get("training", {}), facts["figures"]
    rebuilt, subjects = figures["Reconstruction"], figures["RandomSubjects"]
    why = "faceless" if rebuilt["faces"] * rebuilt["frames"] < LEAST_FACES else "still"

    def format_figure(value: float | None, form: str) -> str:
        return f"- ({why})" if value is None else form.format(value)

    def row(name: str, value: float | None, floor: float, form: str) -> str:
        met = "-" if value is None else "met" if value >= floor else "not met"
        return f"| {name} | {format_figure(value, form)} | at least {form.format(floor)} | {met} |"

    rows = [row(name, figures[a][b], floor, form) for name, (a, b), floor, form in FLOORS]
    rows.append(
        f"| share of random subjects on one training frame | {subjects['crowding']:.1%} | at most {CROWDING:.0%} | "
        f"{'met' if subjects['crowding'] <= CROWDING else 'not met'} |"
    )
    return f"""# {facts["name"]}

StyleGAN2 of {config.resolution} px, {config.num_layers} W+ layers of width {config.w_dim}, with its encoder and the
W+ codes of the footage. Digest of the weights `{domain.digest}`, of the codes `{latents_digest}`.
The encoder looks at crops of {domain.side} px, alignment {domain.alignment} (svgan/faces/alignment.py).

## Figures

On the {rebuilt["frames"]} held-out frames (the last tenth of the footage, never trained on) against their
reconstructions, and on {subjects["samples"]} random subjects at truncation {subjects["truncation"]}. Faces are read
with dlib on frames enlarged to 256 px, footage and reconstruction alike.

| what | figure | floor | |
|---|---|---|---|
{chr(10).join(rows)}
| PSNR of the whole frame | {rebuilt["psnr_frame"]:.1f} dB | | |
| identity distance (dlib, same person below 0.6), median | {format_figure(rebuilt["identity"], "{:.2f}")} | | |
| FID of {rebuilt["frames"]} reconstructions (small sample: biased upwards) | {rebuilt["fid"]:.1f} | | |
| reconstructions with a detected face | {rebuilt["faces"]:.0%} | | |
| random subjects with a detected face | {subjects["faces"]:.0%} | | |

Reconstructions of held-out frames, and random subjects at truncation {subjects["truncation"]}:

![reconstructions](reconstructions.png)
![random subjects](subjects.png)

## How it was trained

`svgan domain` (svgan/images/domain_trainer.py): generator, discriminator and encoder together, on
{training.get("pictures", ["?"])[0]} frames of the subject and {sum(training.get("pictures", [0])[1:])} of others;
{training.get("steps", "?")} steps of {training.get("batch", "?")}, {training.get("pictures_seen", "?")} pictures seen.
{facts.get("trained_on", "")}

## Sources and terms

{facts.get("sources", "")}
"""


def _person(crops: np.ndarray, reader: FaceReader, count: int = 24) -> np.ndarray:
    """A person's mean descriptor [128] over evenly spaced crops."""
    return typical_descriptor(reader.read(crops[np.linspace(0, len(crops) - 1, count).astype(int)]).descriptors)


def _fid(originals: np.ndarray, rebuilt: np.ndarray) -> float:
    network = inception.load()
    return inception.fid(*(inception.picture_moments(network, side) for side in (originals, rebuilt)))


def _grid(pictures: np.ndarray, columns: int) -> np.ndarray:
    rows = pictures[: len(pictures) // columns * columns].reshape(-1, columns, *pictures.shape[1:])
    return np.concatenate([np.concatenate(list(row), 1) for row in rows])
