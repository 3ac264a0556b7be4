"""Separate content and motion: clips that all share the motion, or the content, of the first of them (MoCoGAN-HD).

The content of a clip is its first frame. Its motion is what its codes are moved by, which can be added to any other
content as well.

Axes: B clip, T frame, L W+ layer, D width of W, R pixels of the domain.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.motion import ContinuedMotion
from svgan.sampling.sampler import Sampler

SHARED = ("motion", "content")


class Sharing:
    """Turn a sampler's stream into clips that share the motion or the content of the first clip.

    It takes the chunks [B, <= chunk, L, D] of the stream in order, from the first frame on. With 'motion' each clip
    keeps its own content; with 'content' each clip keeps its own motion.
    """

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
    """Whether the model's first frame depends on content only."""
    return isinstance(sampler.motion, ContinuedMotion)


def sharing(sampler: Sampler, shared: str) -> Sharing:
    """Return the `Sharing` that `shared` names.

    Raises UserError for an unknown name, and for a model whose first frame depends on motion too.
    """
    if shared not in SHARED:
        raise UserError(f"--share {shared}: unknown; one of {', '.join(SHARED)}")
    if not taken_apart(sampler):
        recipe = sampler.meta.get("config", {}).get("recipe", "this model")
        raise UserError(f"--share {shared}: {recipe} does not take content and motion apart; give a run of mocogan-hd")
    return Sharing(shared)


def clips_sharing(sampler: Sampler, domain: Domain, shared: str, clips: int, length: int, seed: int) -> np.ndarray:
    """Render clips that share the motion or the content, as uint8 [B, T, R, R, 3]."""
    share = sharing(sampler, shared)
    codes = torch.cat([share(piece) for piece in sampler.stream(clips, length, seed)], 1)
    pictures = sampler.render(codes.flatten(0, 1), domain)
    return pictures.reshape(clips, length, *pictures.shape[1:])
