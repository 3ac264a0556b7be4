"""A pSp-style encoder: a picture to its W+ codes (Richardson et al. 2021, at small resolution).

As in pSp, a convolutional backbone feeds a feature pyramid. Coarse layers of W+ are read from coarse maps, fine layers
from fine maps, and codes are offsets from the average code. Two things are ours. Heads keep the 4x4 layout of their map
(flattened), where pSp strides down to 1x1. As in e4e (Tov et al. 2021), a code is one shared `base` plus a small
`delta` per layer, so that training can hold the codes near W, where the mapping network lives.

Axes: B picture, L W+ layer, D width of W.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.images.stylegan2 import StyleGAN2Config


class _Block(nn.Module):
    """Residual block that halves the size."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.leaky_relu(self.conv0(x), 0.2))
        return F.leaky_relu(y + self.skip(F.avg_pool2d(x, 2)), 0.2)


class _Head(nn.Module):
    """A pyramid map to `count` codes: reduced to 4x4, flattened, one linear layer (small at the start)."""

    def __init__(self, channels: int, reduced: int, count: int, w_dim: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels, reduced, 3, padding=1)
        self.linear = nn.Linear(reduced * 16, count * w_dim)
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.reduce(x), 0.2)
        y = F.adaptive_avg_pool2d(y, 4)
        return self.linear(y.flatten(1)).unflatten(1, (self.count, -1))


class Encoder(nn.Module):
    """Pictures [B, 3, R, R] in [-1, 1] to W+ codes [B, L, D], relative to `w_avg` [D]."""

    def __init__(self, config: StyleGAN2Config, widths: tuple[int, ...] = (32, 64, 128, 160, 160), reduced: int = 48):
        super().__init__()
        self.config, self.widths, self.reduced, self.side = config, tuple(widths), reduced, config.resolution
        self.w_avg: Tensor
        self.register_buffer("w_avg", torch.zeros(config.w_dim))
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(_Block(a, b) for a, b in itertools.pairwise(widths))
        top = widths[-1]
        self.lateral = nn.ModuleList(nn.Conv2d(c, top, 1) for c in widths[-3:-1])
        layers = config.num_layers
        self.splits = (min(3, layers), max(0, min(7, layers) - 3), max(0, layers - 7))  # pSp's coarse, middle, fine
        self.base = _Head(top, reduced * 2, 1, config.w_dim)
        self.heads = nn.ModuleList(_Head(top, reduced, n, config.w_dim) for n in self.splits if n)

    def to_json(self) -> dict[str, Any]:
        return {"widths": list(self.widths), "reduced": self.reduced}

    def parts(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The base [B, D], absolute, and the delta [B, L, D]; their sum is the code."""
        x = F.leaky_relu(self.stem(pictures), 0.2)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        coarse = maps[-1]
        middle = self.lateral[1](maps[-2]) + F.interpolate(coarse, scale_factor=2.0)
        fine = self.lateral[0](maps[-3]) + F.interpolate(middle, scale_factor=2.0)
        levels = [coarse, middle, fine]
        delta = torch.cat([head(level) for head, level in zip(self.heads, levels, strict=False)], 1)
        return self.w_avg + self.base(coarse)[:, 0].float(), delta.float()

    def forward(self, pictures: Tensor) -> Tensor:
        base, delta = self.parts(pictures)
        return base[:, None] + delta
