"""StyleGAN-V's holistic critic on codes (ours): a few sparse frames with their time differences.

StyleGAN-V draws three frames of a clip at random in every step (docs/papers.md#stylegan-v-frame-sampling and
#stylegan-v-discriminator). Here a critic must be a deterministic function of its clip, or the gradient penalty would
depend on the draw.

So a fixed table of triples covers the window as StyleGAN-V's draws would in the long run. Spans are powers of two,
starts are spread evenly, and the middle frame moves from triple to triple. The score is the mean over the table. Each
frame is encoded once, for all triples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from svgan.torch_utils.layers import SLOPE, linear, mlp

STARTS = 4  # least number of triples per span
FREQUENCIES = 6


class HolisticCritic(nn.Module):
    """Map codes [B, T, K] to [B]: the mean over triples of <features of the three frames, code of their differences>.

    starts: the least number of triples per span.
    """

    least_window: ClassVar[int] = 3
    options: ClassVar[Mapping[str, Sequence[int]]] = {"starts": range(1, 65)}
    triples: Tensor
    times: Tensor

    def __init__(self, width: int, widths: Sequence[int], window: int, starts: int = STARTS):
        super().__init__()
        feature = widths[-1]
        table = torch.tensor(sparse_triples(window, starts))
        self.register_buffer("triples", table, persistent=False)
        self.register_buffer("times", time_features(table.diff(dim=1), window), persistent=False)
        self.frame = mlp([width, *widths])
        self.joint = mlp([3 * feature, 4 * feature, 4 * feature])
        self.difference = nn.Sequential(
            linear(4 * FREQUENCIES, 4 * feature), nn.LeakyReLU(SLOPE), linear(4 * feature, 4 * feature, slope=SLOPE)
        )

    def forward(self, codes: Tensor) -> Tensor:
        return self.judge(self.frame(codes))

    def judge(self, features: Tensor) -> Tensor:
        """Compute scores [B] from E's features [B, T, F]."""
        features = features[:, self.triples].flatten(2)
        joint, code = self.joint(features), self.difference(self.times)
        return (joint * code).sum(2).mean(1) / math.sqrt(code.shape[1])


def sparse_triples(window: int, starts: int = STARTS) -> list[tuple[int, int, int]]:
    """Return frames (first, middle, last) for every span 2, 4, 8, ... below the window, at evenly spread starts.

    The triples of a span cover the whole window, so that every frame is used. The middle frame has a different position
    between the ends in every triple of a span. A window of 25 gives 26 triples.
    """
    triples = []
    span = 2
    while span < window:
        here = min(max(starts, math.ceil((window - 1) / span)), window - span)
        for k in range(here):
            first = round(k * (window - 1 - span) / max(here - 1, 1))
            middle = first + 1 + (k * (span - 1)) // here
            triples.append((first, middle, first + span))
        span *= 2
    return triples


def time_features(differences: Tensor, window: int) -> Tensor:
    """Sines and cosines [M, 4 FREQUENCIES] of the two differences [M, 2] in frames; periods from 4 frames to 2 T."""
    periods = torch.logspace(math.log2(4), math.log2(max(2 * window, 8)), FREQUENCIES, base=2)
    angles = 2 * math.pi * differences[..., None] / periods
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(1)
