"""What preflight's checks found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeps.ray_runtime import resources

if TYPE_CHECKING:
    from svgan.training.config import RunConfig
    from svgan.training.data import Material


@dataclasses.dataclass(frozen=True)
class PreflightResult:
    """What preflight found, for the forecast. runs: the configurations of the controls and of a few random points."""

    there: resources.Resources
    material: Material
    runs: Sequence[RunConfig]
    disk: int  # bytes that the study may keep
    used: dict[int, float]  # seconds that each trial's workers have run by now
    seconds: float
