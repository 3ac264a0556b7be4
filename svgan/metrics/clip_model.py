"""The interface that metrics need of a model of clips; `svgan.sampling.sampler.Sampler` implements it.

Axes: B clip, T frame, L W+ layer, D width of W, R pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from svgan.images.domain import Domain
from svgan.latents.spaces import Space
from svgan.motion import Motion
from svgan.motion.noise import ALL


class ClipModel(Protocol):
    """A model that generates clips. meta: the metadata of its checkpoint (config, step, domain digest, fps)."""

    motion: Motion
    space: Space
    meta: dict[str, Any]

    def stream(self, clips: int, length: int, seed: int, *, chunk: int = 64, part: slice = ALL) -> Iterator[Tensor]:
        """Yield codes of `clips` clips in chunks [B, <= chunk, ...], in constant memory. part: return these
        clips only.
        """
        ...

    def render_own(self, clip: Tensor) -> Tensor | np.ndarray:
        """Return pictures [T, R, R, 3] of a clip's codes [T, ...] if the model renders, else the codes [T, L, D]."""
        ...

    def wplus(self, codes: Tensor, domain: Domain) -> Tensor:
        """Return clips' codes [B, T, ...] as W+ codes [B, T, L, D] of the domain."""
        ...
