"""`stylegan-v-codes` (ours): StyleGAN-V's content and motion codes, decoded to codes of a frozen generator.

    w = M(z), one for a clip; v(t) of svgan.motion.acyclic; code(t) = A(T([w, v(t)])) * spread

M is StyleGAN's mapping network with two layers, as in StyleGAN-V. T and A are the trunk and the affines of GRUMotion,
and spread is the same as there. Unlike in StyleGAN-V, training renders nothing and the critic sees no frames.

Clips begin within one anchor distance of time 0, not anywhere in 1024 frames. At late times an optimiser step would
turn the phases of short periods by more than a radian. Later times would only add phases of long periods, which change
little between anchors.

Axes: B clip, T frame, K width of the space, C width of content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from svgan.motion.acyclic import AcyclicCodes, AnchorNoise, draw_anchor_noise
from svgan.motion.base import ContinuousMotion
from svgan.motion.noise import ALL
from svgan.torch_utils.layers import SLOPE, linear, mlp, pixel_norm

CONTENT_LAYERS = 2


class AcyclicMotion(ContinuousMotion):
    """Map anchor noise to codes at any time.

    content: width of z and w. The other arguments are those of AcyclicCodes and GRUMotion.
    """

    def __init__(
        self, *, content: int, noise: int, trunk: Sequence[int], outputs: int, distance: int = 16, kernel: int = 11
    ):
        super().__init__()
        self.content = content
        self.mapping = mlp([content] * (CONTENT_LAYERS + 1))
        frequencies = max(1, content // 2)
        self.acyclic = AcyclicCodes(
            noise=noise, width=content, frequencies=frequencies, distance=distance, kernel=kernel
        )
        self.trunk = mlp([content + self.acyclic.width, *trunk])
        self.affine = linear(trunk[-1], outputs, slope=SLOPE)
        self.spread: Tensor
        self.register_buffer("spread", torch.ones(outputs))

    def draw(self, batch: int, length: int, generator: torch.Generator) -> AnchorNoise:
        """Draw noise for clips of `length` frames, on the generator's device."""
        times = torch.arange(length, dtype=torch.float64)
        return draw_anchor_noise(batch, self.content, times, generator, self.acyclic.distance)

    def forward(self, noise: AnchorNoise) -> tuple[Tensor, Tensor]:
        """Return codes [B, T, K] and motion codes v [B, T, 2 F]."""
        v = self.acyclic(noise).to(self.spread.dtype)
        w = self.mapping(pixel_norm(noise.content[noise.part]))
        joined = torch.cat([w[:, None].expand(-1, v.shape[1], -1), v.to(w.dtype)], 2)
        return self.affine(self.trunk(joined)) * self.spread, v

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
        """Yield codes in chunks [B, <= chunk, K] of the frames at start, start + step, ..."""
        noise = self.draw(batch, length, generator)[part]
        for times in (start + step * noise.times).split(chunk):
            yield self(noise.at(times))[0]
