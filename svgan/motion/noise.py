"""The noise of a clip: i for the first frame, s_k for each later one (docs/papers.md#stylevideogan-generator)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

ALL = slice(None)
BLOCK = 32  # frames of noise per draw, whatever the length: a short draw is a prefix of a long one


@dataclass(frozen=True)
class Noise:
    """i [B, width], s [B, T - 1, Z], all N(0, 1)."""

    i: Tensor
    s: Tensor

    def __getitem__(self, samples: slice) -> Noise:
        return Noise(self.i[samples], self.s[samples])

    def requires_grad(self) -> Noise:
        """Return a copy whose entries require gradients."""
        return Noise(self.i.detach().requires_grad_(), self.s.detach().requires_grad_())

    @property
    def length(self) -> int:
        """T, the number of frames of a clip."""
        return self.s.shape[1] + 1


def draw_first(batch: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw i [B, width]."""
    return torch.randn(batch, width, generator=generator, device=generator.device)


def draw_later(batch: int, frames: int, width: int, generator: torch.Generator, chunk: int) -> Iterator[Tensor]:
    """Draw s for `frames` frames in chunks [B, <= chunk, Z]; the numbers do not depend on the chunk size."""
    shape = (BLOCK, batch, width)
    blocks = [torch.empty(0, batch, width, device=generator.device)]
    while frames > 0:
        want = min(chunk, frames)
        while sum(map(len, blocks)) < want:
            blocks.append(torch.randn(shape, generator=generator, device=generator.device))
        drawn = torch.cat(blocks)
        yield drawn[:want].transpose(0, 1)
        blocks, frames = [drawn[want:]], frames - want
