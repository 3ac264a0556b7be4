"""What the metrics need of a model that generates clips. `svgan.sampling.sampler.Sampler` is one.

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
    """A generator of clips. meta: what its checkpoint says of it (config, step, domain digest, fps)."""

    motion: Motion
    space: Space
    meta: dict[str, Any]

    def stream(self, clips: int, length: int, seed: int, *, chunk: int = 64, part: slice = ALL) -> Iterator[Tensor]:
        """Codes of `clips` clips in pieces [B, <= chunk, ...], in constant memory; of the clips in `part` alone."""
        ...

    def render_own(self, clip: Tensor) -> Tensor | np.ndarray:
        """Pictures [T, R, R, 3] of a clip's codes [T, ...], where the model renders; else the codes [T, L, D]."""
        ...

    def wplus(self, codes: Tensor, domain: Domain) -> Tensor:
        """Clips' codes [B, T, ...] as W+ codes [B, T, L, D] of the domain."""
        ...
