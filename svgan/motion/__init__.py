"""How noise becomes a sequence of codes of any length. A new model is a file here and a branch in `make_motion`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from svgan.motion.gru import GRUMotion
from svgan.motion.noise import ALL, Noise

if TYPE_CHECKING:
    from svgan.config import RunConfig


class Motion(Protocol):
    """A module whose draws are prefixes: the first frames of a long clip are the short clip of the same generator."""

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Noise: ...

    def forward(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """Codes [B, T, K] in the space's units and latents l [B, T, width]."""
        ...

    def stream(
        self, batch: int, length: int, generator: torch.Generator, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        """The codes of `forward(draw(batch, length, generator))` in chunks [B, <= chunk, K], in constant memory; of the
        clips in `part` alone, which takes as much of the noise as all."""
        ...


def make_motion(config: RunConfig, width: int) -> GRUMotion:
    """The generator that `config` describes, for codes of `width` numbers (K)."""
    return GRUMotion(memory=config.width, noise=config.noise, trunk=config.trunk, outputs=width)
