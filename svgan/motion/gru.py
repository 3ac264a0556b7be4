"""StyleVideoGAN's generator (Fig. 2 of the paper): H, P, T and the affines A_j.

    memory = (H(i)[0], H(i)[1], H(i)[2], i)        l_0 = i
    memory, l_{k+1} = P(s_k, memory)               P: four stacked GRU cells, l_{k+1} its last memory
    code_k = A(T(l_k)) * spread                    T: pixel norm and an MLP; A: all affines A_j as one Linear

spread [K] is constant: the standard deviation of the codes in the space's units (ours). The map stays affine, but codes
of the untrained generator have the size of the data, and Adam moves large and small coordinates alike.

Widths are arguments; every memory has the width of i. Source: docs/papers.md#stylevideogan-generator. Axes: B clip, T
frame, K width of the space, Z noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.motion.base import Motion
from svgan.motion.noise import ALL, Noise, draw_first, draw_later
from svgan.motion.recurrence import CELLS, start_stationary, unroll_fused, unroll_plain
from svgan.torch_utils.layers import SLOPE, linear, mlp, pixel_norm


class GRUMotion(Motion):
    """Map noise to codes; see `svgan.motion.base`.

    The recurrence runs in float32 even under autocast. With gradients enabled it is twice differentiable: GAP needs
    that, and cuDNN's GRU is not. Without gradients torch's fused GRU computes the same.
    """

    def __init__(self, *, memory: int, noise: int, trunk: Sequence[int], outputs: int):
        super().__init__()
        self.memory, self.noise = memory, noise
        hidden = mlp([memory, 2 * memory, 2 * memory, 3 * memory])
        self.hallucinate = nn.Sequential(*hidden, linear(3 * memory, 3 * memory, slope=SLOPE), nn.LeakyReLU(SLOPE))
        self.cells = nn.GRU(noise, memory, CELLS)
        start_stationary(self.cells)
        self.trunk = mlp([memory, *trunk])
        self.affine = linear(trunk[-1], outputs, slope=SLOPE)
        self.spread: Tensor
        self.register_buffer("spread", torch.ones(outputs))

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Noise:
        """Draw noise for clips of `length` frames, on the generator's device."""
        i = draw_first(batch, self.memory, generator)
        chunks = list(draw_later(batch, length - 1, self.noise, generator, length))
        return Noise(i, chunks[0] if chunks else i.new_zeros(batch, 0, self.noise))

    def forward(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return codes [B, T, K] and latents l [B, T, width]."""
        with torch.autocast(noise.i.device.type, enabled=False):
            later, _ = self.unroll(noise.s, self.first_memory(noise.i))
            latents = torch.cat([noise.i[:, None], later], 1)
        return self.decode(latents), latents

    def stream(
        self, batch: int, length: int, generator: torch.Generator, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        """Yield codes in chunks [B, <= chunk, K], equal to `forward(draw(batch, length, generator))[part]`."""
        i = draw_first(batch, self.memory, generator)[part]
        memory = self.first_memory(i)
        yield self.decode(i[:, None])
        for s in draw_later(batch, length - 1, self.noise, generator, chunk):
            latents, memory = self.unroll(s[part], memory)
            yield self.decode(latents)

    def first_memory(self, i: Tensor) -> Tensor:
        """(H(i)[0], H(i)[1], H(i)[2], i) as [4, B, width].

        Each memory that H hallucinates is normalised per sample (ours: the re-implementation's batch norm mixes
        samples).
        """
        hallucinated = self.hallucinate(i).unflatten(1, (CELLS - 1, self.memory))
        hallucinated = F.layer_norm(hallucinated, (self.memory,))
        return torch.cat([hallucinated, i[:, None]], 1).transpose(0, 1).contiguous()

    def unroll(self, s: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Run P over s [B, T', Z]; return latents [B, T', width] and the memory [4, B, width] after the last frame."""
        if s.shape[1] == 0:
            return s.new_zeros(len(s), 0, self.memory), memory
        unrolled = unroll_plain if torch.is_grad_enabled() else unroll_fused
        latents, memory = unrolled(self.cells, s.transpose(0, 1), memory)
        return latents.transpose(0, 1), memory

    def decode(self, latents: Tensor) -> Tensor:
        """A(T(l)): latents [B, T, width] to codes [B, T, K]."""
        return self.affine(self.trunk(pixel_norm(latents))) * self.spread
