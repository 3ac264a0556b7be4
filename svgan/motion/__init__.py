"""How noise becomes a sequence of codes of any length. A new model is a file here and a branch in `make_motion`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from svgan.motion.base import ContinuousMotion, Motion, RenderedMotion
from svgan.motion.continuous import AcyclicMotion
from svgan.motion.gru import GRUMotion

if TYPE_CHECKING:
    from svgan.systems.stylevideogan.config import CodesConfig

__all__ = ["AcyclicMotion", "ContinuousMotion", "GRUMotion", "Motion", "RenderedMotion", "make_motion"]


def make_motion(config: CodesConfig, width: int) -> GRUMotion | AcyclicMotion:
    """The generator that `config` describes, for codes of `width` numbers (K)."""
    if config.motion == "acyclic":
        return AcyclicMotion(
            content=config.width,
            noise=config.noise,
            trunk=config.trunk,
            outputs=width,
            distance=config.distance,
            kernel=config.kernel,
        )
    return GRUMotion(memory=config.width, noise=config.noise, trunk=config.trunk, outputs=width)
