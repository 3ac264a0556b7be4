"""Content and motion taken apart: clips that all have the motion, or the content, of one of them (MoCoGAN-HD).

A clip's content is its first frame, its motion what is added to it by and by: the residuals of Eq. 2, which are another
content's as well.

Axes: B clip, T frame, L W+ layer, D width of W, R pixels of the domain.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.sampling.sampler import Sampler
from svgan.systems.mocogan_hd.motion import LSTMMotion

SHARED = ("motion", "content")


class Sharing:
    """Pieces [B, <= chunk, L, D] of what a sampler streams, from the first frame on, as clips that share the first
    one's motion, each with its own content, or its content, each with its own motion."""

    def __init__(self, shared: str):
        self.shared = shared
        self.first: Tensor | None = None

    def __call__(self, codes: Tensor) -> Tensor:
        if self.first is None:
            self.first = codes[:, :1].clone()
        if self.shared == "motion":
            return self.first + (codes - self.first)[:1]
        return self.first[:1] + (codes - self.first)


def taken_apart(sampler: Sampler) -> bool:
    """Whether the model's first frame is content alone."""
    return isinstance(sampler.motion, LSTMMotion)


def sharing(sampler: Sampler, shared: str) -> Sharing:
    """Raises UserError for what cannot be shared, and for a model whose first frame is motion as well."""
    if shared not in SHARED:
        raise UserError(f"--share {shared}: unknown; one of {', '.join(SHARED)}")
    if not taken_apart(sampler):
        recipe = sampler.meta.get("config", {}).get("recipe", "this model")
        raise UserError(f"--share {shared}: {recipe} does not take content and motion apart; give a run of mocogan-hd")
    return Sharing(shared)


def clips_sharing(sampler: Sampler, domain: Domain, shared: str, clips: int, length: int, seed: int) -> np.ndarray:
    """Rendered clips uint8 [B, T, R, R, 3]."""
    share = sharing(sampler, shared)
    codes = torch.cat([share(piece) for piece in sampler.stream(clips, length, seed)], 1)
    pictures = sampler.render(codes.flatten(0, 1), domain)
    return pictures.reshape(clips, length, *pictures.shape[1:])
