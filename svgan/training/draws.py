"""The random numbers of a step: drawn for the global batch, and cut to this rank's part.

So w workers together use the numbers of a single one. Every draw is a function of (seed, step, name), so a resumed run
draws the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from svgan.torch_utils import rng
from svgan.torch_utils.distributed import Process

if TYPE_CHECKING:
    from svgan.training.state import State


def stream(state: State, *name: str | int, device: torch.device | str | None = None) -> torch.Generator:
    """Return the generator of this step's random numbers under this name. device: by default the state's."""
    return rng.generator(device or state.device, state.config.seed, state.step, *name)


def own_part(state: State, process: Process) -> slice:
    """Return this rank's slice of a global batch."""
    return rng.own_slice(state.config.batch, process.rank, process.world)


def draw_noise(state: State, process: Process, *name: str | int) -> Any:
    """Draw noise for a global batch of clips of one window, for the state's generator; return this rank's part."""
    config = state.config
    return state.motion.draw(config.batch, config.window, stream(state, *name))[own_part(state, process)]
