"""The interface of every motion model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from svgan.motion.noise import ALL


class Motion(nn.Module):
    """A motion model. A long clip begins with the short clip that a generator of the same seed draws."""

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Any:
        """Draw noise for clips of `length` frames, on the generator's device; it can be sliced by clip."""
        raise NotImplementedError

    def stream(
        self, batch: int, length: int, generator: torch.Generator, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        """Yield codes in chunks [B, <= chunk, K] in the space's units, in constant memory.

        The chunks equal a computation of all frames at once. part: return these clips only; the generator draws the
        noise of all clips all the same.
        """
        raise NotImplementedError


class ContinuedMotion(Motion):
    """A motion model whose first frame is content alone, so that it can also be given."""

    def continued(
        self, first: Tensor, batch: int, length: int, generator: torch.Generator, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        """Yield codes as `stream` does, from given first codes [B, K] in the space's units."""
        raise NotImplementedError


class ContinuousMotion(Motion):
    """A motion model with codes at any time from 0 on.

    Times may be fractions of a frame, and a code does not need the codes of earlier times.
    """

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
        """Yield chunks as `Motion.stream` does, of `length` frames at the times start, start + step, ...

        Times are in frames of the footage.
        """
        raise NotImplementedError


class RenderedMotion(Motion):
    """A motion model trained with its own renderer, to which its codes [B, T, K] belong."""

    def truncated(self, codes: Tensor, truncation: float) -> Tensor:
        """Move codes towards the mean code; truncation 1 leaves them unchanged."""
        raise NotImplementedError

    def render(self, codes: Tensor | np.ndarray) -> np.ndarray:
        """Render codes [N, K] as pictures uint8 [N, R, R, 3]."""
        raise NotImplementedError
