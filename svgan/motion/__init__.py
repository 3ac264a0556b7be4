"""Motion models: how noise becomes a sequence of codes of any length. A new model is a file here."""

from svgan.motion.base import ContinuedMotion, ContinuousMotion, Motion, RenderedMotion
from svgan.motion.continuous import AcyclicMotion
from svgan.motion.gru import GRUMotion

__all__ = ["AcyclicMotion", "ContinuedMotion", "ContinuousMotion", "GRUMotion", "Motion", "RenderedMotion"]
