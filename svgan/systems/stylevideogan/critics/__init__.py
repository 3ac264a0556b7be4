"""Critics of code sequences. To add a critic, add a file here and a name in `DESIGNS`.

A critic maps codes [B, T, K], in the space's units, to one unbounded score per clip, [B]. `least_window` is the
shortest clip that it accepts. `options` lists the options of its design, each with the allowed values. No critic mixes
samples, because the gradient penalty is taken per sample.
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
