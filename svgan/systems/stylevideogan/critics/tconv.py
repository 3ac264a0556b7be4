"""StyleVideoGAN's critic: an MLP on every frame (E), then a temporal convolution to one score (TConv).

The wiring is the paper's (Fig. 2). Kernel 5, stride 2 and the doubling channels are the third-party
re-implementation's. Ours: no normalisation, and a linear score. Source: docs/papers.md#stylevideogan-critic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from svgan.torch_utils.layers import SLOPE, conv, linear, mlp


class TConvCritic(nn.Module):
    """Map codes [B, T, K] by E to [B, T, F] and by two strided convolutions to [B]; T is fixed at construction.

    kernel: frames per convolution.
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
        """Compute scores [B] from E's features [B, T, F]."""
        return self.score(self.time(features.transpose(1, 2)).flatten(1)).squeeze(1)
