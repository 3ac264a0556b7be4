"""The W space of a frozen generator: what its mapping network makes of noise, in principal coordinates.

A code of W+ in it is one w for all layers. Coordinates are (w - mean) along orthonormal axes V, those of most variance
first, divided by one number for all, the first axis's standard deviation: distances are W's own.

Axes: B clip, L W+ layer, D width of W, and of this space.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.latents.stats import Space


class Mapping(nn.Module):
    """StyleGAN2's mapping network with its learning-rate multipliers multiplied in: z [B, D] to w [B, D], frozen."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layers: int, width: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(layers, width, width))
        self.register_buffer("bias", torch.zeros(layers, width))

    def forward(self, z: Tensor) -> Tensor:
        w = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for weight, bias in zip(self.weight, self.bias, strict=True):
            w = F.leaky_relu(F.linear(w, weight, bias), 0.2) * math.sqrt(2)
        return w


class WSpace(Space):
    """Coordinates [..., D] for codes that are the same in every layer; holds buffers only.

    encode: the mean over layers of W+ codes; decode: the same w for all layers. axes V [D, D]: orthonormal rows. spread
    [D]: standard deviation of each coordinate over the generator's own subjects, falling from 1.
    """

    axes: Tensor

    def __init__(self, layers: int, code_width: int, mapping_layers: int):
        super().__init__("w", layers, code_width, code_width)
        self.register_buffer("axes", torch.eye(code_width))
        self.mapping = Mapping(mapping_layers, code_width)

    def encode(self, codes: Tensor) -> Tensor:
        """W+ codes [..., L, D] to coordinates [..., D]."""
        return self.encode_w(codes.mean(-2))

    def encode_w(self, w: Tensor) -> Tensor:
        """W codes [..., D] to coordinates [..., D]."""
        return (w - self.mean[: self.code_width]) @ self.axes.T / self.scale

    def decode(self, coordinates: Tensor) -> Tensor:
        """Coordinates [..., D] to W+ codes [..., L, D]."""
        w = (coordinates * self.scale) @ self.axes + self.mean[: self.code_width]
        return w.unsqueeze(-2).expand(*w.shape[:-1], self.layers, self.code_width)

    def subjects(self, z: Tensor) -> Tensor:
        """Noise z [B, D] to coordinates [B, D] of the generator's own subjects."""
        return self.encode_w(self.mapping(z))

    def spec(self) -> dict:
        return {**super().spec(), "mapping_layers": len(self.mapping.weight)}
