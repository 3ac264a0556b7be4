"""StyleVideoGAN's critic: one MLP on every frame (E), then a temporal convolution to one score (systems.md 1.4).

The wiring is the paper's (figure 2); kernel 5, stride 2 and the doubling channels are the third-party
re-implementation's. No normalisation and a linear score are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from svgan.torch_utils.layers import SLOPE, conv, linear, mlp


class TConvCritic(nn.Module):
    """codes [B, T, K] -> E -> [B, T, F] -> two strided convolutions -> [B]; T is fixed at construction.

    kernel: frames under a convolution.
    """

    least_window: ClassVar[int] = 2
    options: ClassVar[Mapping[str, Sequence[int]]] = {"kernel": (3, 5, 7, 9)}

    def __init__(self, width: int, widths: Sequence[int], window: int, kernel: int = 5):
        super().__init__()
        feature = widths[-1]
        self.frame = mlp([width, *widths])
        self.time = nn.Sequential(
            conv(feature, 2 * feature, kernel, stride=2),
            nn.LeakyReLU(SLOPE),
            conv(2 * feature, 4 * feature, kernel, stride=2),
            nn.LeakyReLU(SLOPE),
        )
        self.score = linear(4 * feature * math.ceil(window / 4), 1)

    def forward(self, codes: Tensor) -> Tensor:
        return self.judge(self.frame(codes))

    def judge(self, features: Tensor) -> Tensor:
        """Scores [B] of E's features [B, T, F]."""
        return self.score(self.time(features.transpose(1, 2)).flatten(1)).squeeze(1)
