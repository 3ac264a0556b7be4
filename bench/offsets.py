"""Offsets to another subject: plain, orthogonal to several numbers of principal axes, and the converse projection.

    python bench/offsets.py            three pictures of the default domain's second subject, ten seconds of the footage

The formulas are in docs/papers.md#stylevideogan-offset. The footage's own motion is moved, so errors of a generator do
not count. Each row has the median, the least and the largest of the pictures' values: identity distance to the target
(same person below 0.6), and the correlation of the moved clip with the source clip.

Cost: 10 CPU minutes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from svgan.assets import cache
from svgan.images.domain import Domain
from svgan.io.video_reader import read_frames
from svgan.latents.shards import open_latents
from svgan.metrics.transfer import Transfer, evenly, transfer
from svgan.sampling.offset import offset, offset_orthogonal
from svgan.sampling.subject import photo_code

FIRST, FRAMES = 1000, 250
AXES = (8, 16, 32, 64, 128)
PICTURES = (60, 400, 900)  # frames of the second subject's video
SHOWN = ("identity_distance", "identity_similarity", "mouth", "eyes", "yaw", "faces")


def converse(codes: Tensor, source: Tensor, target: Tensor, basis: Tensor) -> Tensor:
    """w_B + U^T U (w_k - w_A): of the clip's codes nothing but the motion along the axes."""
    apart = (codes - source).flatten(-2)
    return target + (apart @ basis.T @ basis).view_as(codes)


def targets(domain: Domain) -> list[np.ndarray]:
    """Codes [L, D] of the pictures."""
    codes = []
    with tempfile.TemporaryDirectory() as folder:
        for number, frame in enumerate(islice(read_frames(cache.paths("second-subject")[0]), max(PICTURES) + 1)):
            if number in PICTURES:
                Image.fromarray(frame).save(Path(folder, "you.png"))
                codes.append(photo_code(Path(folder, "you.png"), domain, "you.png"))
    return codes


def row(name: str, found: list[Transfer]) -> str:
    cells = [[getattr(one, figure) for one in found] for figure in SHOWN]
    return f"| {name} | " + " | ".join(f"{np.median(c):.2f} ({min(c):.2f} to {max(c):.2f})" for c in cells) + " |"


def main() -> None:
    domain = Domain.load()
    latents = open_latents(domain.latents_uri, domain=domain.digest)
    clip = evenly([torch.from_numpy(latents.codes[FIRST : FIRST + FRAMES])[None]], FRAMES)
    source, basis = torch.from_numpy(latents.mean).view_as(clip[0]), torch.from_numpy(latents.basis)
    spread = np.square((latents.codes - latents.codes.mean(0)).reshape(len(latents.codes), -1) @ latents.basis.T).sum(0)
    most = int(np.searchsorted(spread.cumsum() / spread.sum(), 0.99)) + 1
    people = targets(domain)
    ways: dict[str, Callable[..., Tensor]] = {"plain": offset}
    for axes in sorted({*AXES, most}):
        if axes <= len(basis):
            said = " (99 % of the variance)" if axes == most else ""
            ways[f"orthogonal, {axes} axes{said}"] = partial(offset_orthogonal, basis=basis[:axes])
    ways["converse, 32 axes"] = partial(converse, basis=basis[:32])
    print("| offset | " + " | ".join(SHOWN) + " |\n|---|" + "---|" * len(SHOWN))
    for name, way in ways.items():
        found = []
        for person in people:
            move = partial(way, source=source, target=torch.from_numpy(person))
            found.append(transfer(clip, move, person, domain))
        print(row(name, found), flush=True)


if __name__ == "__main__":
    main()
