"""What every model of motion is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from svgan.motion.noise import ALL


class Motion(nn.Module):
    """A module whose draws are prefixes: the first frames of a long clip are the short clip of the same generator."""

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Any:
        """Noise for clips of `length` frames, on the generator's device; it can be sliced by clip."""
        raise NotImplementedError

    def stream(
        self, batch: int, length: int, generator: torch.Generator, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        """Codes in chunks [B, <= chunk, K] in the space's units, in constant memory, the same as of all frames at once;
        of the clips in `part` alone, which takes as much of the noise as all."""
        raise NotImplementedError


class ContinuousMotion(Motion):
    """A motion that has codes at any time from 0 on, fractions of a frame too, each without those before it."""

    def stream(
        self,
        batch: int,
        length: int,
        generator: torch.Generator,
        chunk: int = 64,
        part: slice = ALL,
        *,
        start: float = 0.0,
        step: float = 1.0,
    ) -> Iterator[Tensor]:
        """As Motion's; of `length` frames at the times start, start + step, ..., in frames of the footage."""
        raise NotImplementedError


class RenderedMotion(Motion):
    """A motion that was trained with a renderer of its own: its codes [B, T, K] are that renderer's."""

    def truncated(self, codes: Tensor, truncation: float) -> Tensor:
        """Codes nearer to the mean ones; 1 leaves them."""
        raise NotImplementedError

    def render(self, codes: Tensor | np.ndarray) -> np.ndarray:
        """Codes [N, K] to pictures uint8 [N, R, R, 3]."""
        raise NotImplementedError
