"""Clips of any length from a trained generator, and the offset that carries their motion to another subject.

Axes: B clip, T frame, L W+ layer, D width of W, K width of the space.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svgan import rng
from svgan.checkpoint import load_generator
from svgan.errors import UserError
from svgan.latents.stats import Space
from svgan.motion.gru import GRUMotion
from svgan.motion.noise import ALL
from svgan.state import State


class Sampler:
    """A generator, the space it works in, and what is known of it (config, step, domain digest, fps).

    Same arguments, same clips; a longer clip begins with the shorter one of the same seed.
    """

    def __init__(self, motion: GRUMotion, space: Space, meta: dict[str, Any]):
        self.motion, self.space, self.meta = motion, space, meta

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Sampler:
        """From a checkpoint's folder. Raises UserError for anything else."""
        generator = load_generator(folder, device)
        return cls(generator.motion, generator.space, generator.meta)

    @classmethod
    def of(cls, state: State) -> Sampler:
        """The EMA generator of a run in progress, not a copy."""
        meta = state.meta | {"config": state.config.to_json(), "step": state.step}
        return cls(state.ema, state.space, meta)

    @torch.no_grad()
    def stream(
        self, clips: int, length: int, seed: int, *, truncation: float = 1.0, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        """`codes` in pieces [B, <= chunk, L, D], in constant memory; of the clips in `part` alone, which are then the
        same but for the last bit."""
        check_truncation(truncation)
        generator = rng.generator(self.space.mean.device, seed, "sample")
        for coordinates in self.motion.stream(clips, length, generator, chunk, part):
            yield self.space.decode(coordinates * truncation)

    def codes(self, clips: int, length: int, seed: int, *, truncation: float = 1.0) -> Tensor:
        """W+ codes [B, T, L, D]. truncation pulls them towards the training codes' mean (StyleGAN's, in W+; ours)."""
        return torch.cat(list(self.stream(clips, length, seed, truncation=truncation)), 1)

    @torch.no_grad()
    def coordinates(self, clips: int, length: int, seed: int) -> Tensor:
        """The same clips in the space's units, [B, T, K]: what latent metrics compare."""
        generator = rng.generator(self.space.mean.device, seed, "sample")
        return torch.cat(list(self.motion.stream(clips, length, generator)), 1)


def check_truncation(truncation: float) -> None:
    if not 0 < truncation <= 1:
        raise UserError(f"truncation: must be above 0 and at most 1 (1 = none), got {truncation}")


def offset(codes: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """w_k + (w_B - w_A): codes [..., L, D] of subject A moved to B, source and target [L, D] (systems.md 1.7)."""
    return codes + (target - source)


def offset_orthogonal(codes: Tensor, source: Tensor, target: Tensor, basis: Tensor) -> Tensor:
    """w_k + o with o = (w_B - w_A) - U^T U (w_B - w_A): the offset without its part along A's motion.

    basis U [m, L D]: orthonormal rows, the principal axes of A's codes. Our reconstruction of the paper's
    PCA-orthogonal offset (systems.md 1.7).
    """
    apart = (target - source).flatten()
    apart = apart - basis.T @ (basis @ apart)
    return codes + apart.view_as(source)
