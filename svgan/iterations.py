"""Which form of the iteration a run has: that of its configuration."""

from __future__ import annotations

from torch import Tensor

from svgan import fast, step
from svgan.distributed import Process
from svgan.state import State
from svgan.step import Clips, Iteration

ITERATIONS: dict[str, Iteration] = {"plain": step.iterate, "fast": fast.iterate}


def iterate(state: State, clips: Clips, process: Process) -> dict[str, Tensor]:
    """`svgan.step.iterate`, or what state.config.iteration names instead."""
    return ITERATIONS[state.config.iteration](state, clips, process)
