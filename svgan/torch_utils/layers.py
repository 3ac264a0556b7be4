"""Layers that motion models and critics share. None of them mixes samples or keeps batch statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

SLOPE = 0.2  # slope of every LeakyReLU (our choice, docs/papers.md#stylevideogan-generator)


def linear(inputs: int, outputs: int, *, slope: float = 1.0) -> nn.Linear:
    """Make a Linear whose outputs have unit variance for unit-variance inputs that passed a LeakyReLU of `slope`."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / ((1 + slope**2) * inputs)))
    nn.init.zeros_(layer.bias)
    return layer


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv1d:
    """Make a Conv1d over frames, scaled like `linear`; it returns ceil(T / stride) frames."""
    layer = nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / ((1 + SLOPE**2) * inputs * kernel)))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Make linear layers of the given widths (input first), each followed by a LeakyReLU."""
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [linear(inputs, outputs, slope=SLOPE if index else 1.0), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


def pixel_norm(x: Tensor) -> Tensor:
    """x / rms(x) over the last axis (Karras et al. 2018)."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-8)
