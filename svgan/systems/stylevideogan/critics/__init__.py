"""How a sequence of codes is judged. A new critic is a file here and a name in `DESIGNS`.

A critic takes codes [B, T, K] in the space's units and returns one unbounded score per clip, [B]. `least_window`
is the shortest clip it can see, `options` what else a design lets a run set, each with the values allowed. No critic
mixes samples: the gradient penalty is taken per sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from torch import Tensor

from svgan.systems.stylevideogan.critics.holistic import HolisticCritic
from svgan.systems.stylevideogan.critics.multiscale import MultiscaleCritic
from svgan.systems.stylevideogan.critics.tconv import TConvCritic


class Critic(Protocol):
    least_window: ClassVar[int]
    options: ClassVar[Mapping[str, Sequence[int]]]

    def __init__(self, width: int, widths: Sequence[int], window: int, **options: int): ...

    def forward(self, codes: Tensor) -> Tensor: ...


DESIGNS: dict[str, type[Critic]] = {
    "tconv": TConvCritic,
    "multiscale": MultiscaleCritic,
    "holistic": HolisticCritic,
}
