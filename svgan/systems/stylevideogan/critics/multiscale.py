"""MoCoGAN-HD's two-scale PatchGAN on codes (ours): patch critics over time at two rates.

E maps every frame to features. One head scores short stretches of the features at the full rate, the next at half the
rate (means of neighbouring pairs). A head's score is the mean over its stretches; the clip's score is the mean over the
heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.torch_utils.layers import SLOPE, conv, mlp

HEADS = ("full_rate", "half_rate", "quarter_rate")


class MultiscaleCritic(nn.Module):
    """Map codes [B, T, K] to [B], for any T of 2 or more. A stretch spans 9 frames at the full rate and 18 at half of
    it.

    rates: number of heads; 1 is the full rate only, 3 adds a quarter of it. Frames that are missing there are repeated.
    """

    least_window: ClassVar[int] = 2
    options: ClassVar[Mapping[str, Sequence[int]]] = {"rates": (1, 2, 3)}

    def __init__(self, width: int, widths: Sequence[int], window: int, rates: int = 2):
        super().__init__()
        self.frame = mlp([width, *widths])
        self.rates = HEADS[:rates]
        for head in self.rates:
            setattr(self, head, patch_head(widths[-1]))

    def forward(self, codes: Tensor) -> Tensor:
        return self.judge(self.frame(codes))

    def judge(self, features: Tensor) -> Tensor:
        """Compute scores [B] from E's features [B, T, F]."""
        features = features.transpose(1, 2)
        scores = []
        for turn, head in enumerate(self.rates):
            if turn:
                features = F.avg_pool1d(features, 2, ceil_mode=features.shape[2] < 2)
            scores.append(getattr(self, head)(features).mean((1, 2)))
        return torch.stack(scores).mean(0)


def patch_head(feature: int) -> nn.Sequential:
    """Make a head: features [B, F, T] to one score per stretch [B, 1, T / 2]."""
    return nn.Sequential(
        conv(feature, 2 * feature, 5, stride=2),
        nn.LeakyReLU(SLOPE),
        conv(2 * feature, 1, 3),
    )
