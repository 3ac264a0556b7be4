"""What a way to find gradients takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from svgan.motion.noise import Noise
from svgan.state import State


class Found(NamedTuple):
    """gradients: by the parameters of the part that moves, in their order. figures: 0-d tensors to report. moments:
    of l_{T-1} - l_0, mean and mean square [width] each, where there is a GAP."""

    gradients: list[Tensor]
    figures: dict[str, Tensor]
    moments: tuple[Tensor, ...] = ()


class Gradients(Protocol):
    def critic(self, state: State, real: Tensor, fake: Tensor, eps: Tensor) -> Found:
        """Of E[C(fake)] - E[C(real)] + lambda_GP L_GP, by the critic: real, fake [B, T, K], eps [B] (losses.py)."""
        ...

    def generator(self, state: State, noise: Noise) -> Found:
        """Of -E[C(fake)] + lambda_GAP L_GAP, by the generator."""
        ...

    def latents(self, state: State, noises: Sequence[Noise]) -> list[Tensor]:
        """The generator's latents [B, T, width] of each noise, for the critic to judge; they take no gradient."""
        ...
