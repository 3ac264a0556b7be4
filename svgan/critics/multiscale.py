"""Patch critics over time at two rates: MoCoGAN-HD's two-scale PatchGAN, carried over to codes (ours).

Every frame passes E; one head judges short stretches of the features at the full rate, the other at half the rate
(means of neighbouring pairs). A head's score is the mean over its stretches, the clip's the mean over the heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from svgan.layers import SLOPE, conv, mlp


class MultiscaleCritic(nn.Module):
    """codes [B, T, K] -> [B]. A stretch spans 9 frames at the full rate and 18 at half of it; any T of 2 or more."""

    wants: ClassVar[str] = "codes"
    least_window: ClassVar[int] = 2

    def __init__(self, width: int, widths: Sequence[int], window: int):
        super().__init__()
        self.frame = mlp([width, *widths])
        self.full_rate = patch_head(widths[-1])
        self.half_rate = patch_head(widths[-1])

    def forward(self, codes: Tensor) -> Tensor:
        features = self.frame(codes).transpose(1, 2)
        full = self.full_rate(features).mean((1, 2))
        half = self.half_rate(F.avg_pool1d(features, 2)).mean((1, 2))
        return (full + half) / 2


def patch_head(feature: int) -> nn.Sequential:
    """Features [B, F, T] to one score per stretch [B, 1, T / 2]."""
    return nn.Sequential(
        conv(feature, 2 * feature, 5, stride=2),
        nn.LeakyReLU(SLOPE),
        conv(2 * feature, 1, 3),
    )
