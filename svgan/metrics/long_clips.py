"""Long clips of the footage and of a model, in coordinates of the footage's first principal components.

Loops, freezing and motion are measured on them.

Axes: n clip, T frame, L W+ layer, D width of W, K coordinate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from svgan.errors import UserError
from svgan.latents.spaces import make_space
from svgan.metrics.loops import LEAST_SECONDS

if TYPE_CHECKING:
    from svgan.images.domain import Domain
    from svgan.latents.manifest import Latents
    from svgan.metrics.clip_model import ClipModel
    from svgan.metrics.fvd import Progress

CLIPS, FRAMES, COORDINATES = 16, 1000, 16


class LongClips:
    """`footage` [n, T, K]: evenly spaced windows of 1000 frames, or of the longest run.

    Raises UserError if the longest run of the footage is too short to detect loops.
    """

    def __init__(self, latents: Latents):
        self.space = make_space("pca", latents, min(COORDINATES, len(latents.basis)))
        length = min(FRAMES, latents.longest_run)
        if length < LEAST_SECONDS * latents.manifest.fps:
            raise UserError(
                f"loops: the longest run of frames in {latents.uri} has {length}, and they need "
                f"{LEAST_SECONDS:g} s; leave loops out of --metrics, or embed longer footage"
            )
        codes = torch.from_numpy(latents.codes)
        starts = spaced_windows(latents, length, CLIPS)
        self.footage = np.stack([self.coordinates(codes[start : start + length]) for start in starts])

    def generate(self, sampler: ClipModel, domain: Domain, seed: int, progress: Progress) -> np.ndarray:
        """Generate equally many clips of a model, of the same length, [n, T, K]."""
        clips, length = self.footage.shape[:2]
        pieces = []
        for done, piece in enumerate(sampler.stream(clips, length, seed)):
            progress("long clips' codes", min(64 * done + 1, length), length)
            pieces.append(self.coordinates(sampler.wplus(piece, domain)))
        return np.concatenate(pieces, 1)

    def coordinates(self, codes: torch.Tensor) -> np.ndarray:
        """Convert W+ codes [..., L, D] to coordinates [..., K]."""
        return self.space.encode(codes.detach().cpu().float()).numpy()


def spaced_windows(latents: Latents, length: int, count: int) -> np.ndarray:
    """First rows [count] of evenly spaced windows of `length` frames."""
    starts = latents.windows(length)
    return starts[np.linspace(0, len(starts) - 1, count).astype(int)]
