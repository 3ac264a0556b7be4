"""Render a sampler's clips: several clips side by side, on request moved to another subject.

Axes: B clip, T frame, L W+ layer, D width of W, R pixels of the domain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.manifest import Latents
from svgan.sampling.offset import offset, offset_orthogonal
from svgan.sampling.sampler import Sampler

Mover = Callable[[Tensor], Tensor]
OFFSETS = ("plain", "orthogonal")
PIXELS = 2**25  # pixels rendered together: 96 MiB


def frames(
    sampler: Sampler,
    domain: Domain,
    *,
    clips: int = 1,
    length: int = 250,
    seed: int = 0,
    truncation: float = 1.0,
    move: Mover | None = None,
) -> Iterator[np.ndarray]:
    """Yield frames uint8 [rows R, columns R, 3] of `clips` clips side by side, rendered in batches, in constant memory.

    All frames share the domain's noise maps, so that texture does not flicker. The same arguments give the same frames;
    a longer clip begins with the shorter one.
    """
    chunk = max(1, min(64, PIXELS // (clips * domain.config.resolution**2)))
    for codes in sampler.stream(clips, length, seed, truncation=truncation, chunk=chunk):
        moved = codes if move is None else move(codes)
        pictures = sampler.render(moved.flatten(0, 1), domain)
        pictures = pictures.reshape(clips, codes.shape[1], *pictures.shape[1:])
        yield from (grid(pictures[:, t]) for t in range(pictures.shape[1]))


def grid(pictures: np.ndarray) -> np.ndarray:
    """Tile pictures [B, R, R, 3] into one, in rows of ceil(sqrt(B)); missing ones are black."""
    count, side = pictures.shape[:2]
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    full = np.zeros((rows * columns, *pictures.shape[1:]), np.uint8)
    full[:count] = pictures
    return full.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)


def make_mover(sampler: Sampler, code: np.ndarray, how: str, footage: Callable[[], Latents]) -> Mover:
    """Make the offset from the training subject (its mean code) to the subject with this code [L, D].

    how: one of OFFSETS. footage: loads the training codes; called only if the space has no principal axes of its own.
    Raises UserError for a generator with its own renderer, which cannot show other subjects.
    """
    if sampler.renderer is not None:
        recipe = sampler.meta.get("config", {}).get("recipe", "this model")
        raise UserError(
            f"--subject: {recipe} has its own renderer, which shows its training subject only; leave it out, or "
            "give a run of a system whose codes a domain renders"
        )
    device = sampler.space.mean.device
    shape = (sampler.space.layers, sampler.space.code_width)
    source = sampler.space.mean.reshape(shape)
    target = torch.from_numpy(code).reshape(shape).to(device)
    if how == "plain":
        return lambda codes: offset(codes, source, target)
    basis = sampler.space.basis
    axes = torch.from_numpy(footage().basis).to(device) if basis is None else basis
    return lambda codes: offset_orthogonal(codes, source, target, axes)
