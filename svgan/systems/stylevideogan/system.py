"""StyleVideoGAN as a system: its parts, and the material that it can learn from."""

from __future__ import annotations

import torch
from torch import Tensor

from svgan.latents.clips import ClipSource
from svgan.latents.spaces import Space, make_space
from svgan.motion import Motion
from svgan.motion.acyclic import check_anchors
from svgan.systems.stylevideogan import fast, step
from svgan.systems.stylevideogan.config import CodesConfig
from svgan.systems.stylevideogan.networks import make_motion
from svgan.systems.stylevideogan.recipes import RECIPES
from svgan.systems.stylevideogan.state import CodesState
from svgan.torch_utils.distributed import Process
from svgan.training.data import Material
from svgan.training.registry import System

ITERATIONS = {"plain": step.iterate, "fast": fast.iterate, "graph": fast.cuda_graph.iterate}


def iterate(state: CodesState, clips: step.Clips, process: Process) -> dict[str, Tensor]:
    """Run one iteration in the implementation that state.config.iteration names."""
    return ITERATIONS[state.config.iteration](state, clips, process)


def make_generator(config: CodesConfig, space: Space) -> Motion:
    return make_motion(config, space.width)


def fit_space(config: CodesConfig, material: Material) -> Space:
    return make_space(config.space, material.latents, config.components)


def make_source(config: CodesConfig, material: Material, space: Space, device: torch.device) -> ClipSource:
    return ClipSource(material.latents, config.window, space, device)


def check(config: CodesConfig, material: Material) -> None:
    """Raise UserError if the footage is too short for motion between anchors."""
    if config.motion == "acyclic":
        check_anchors(config.distance, material.latents.longest_run, material.latents.uri)


SYSTEM = System(
    config=CodesConfig,
    state=CodesState,
    recipes=RECIPES,
    motion=make_generator,
    space=fit_space,
    source=make_source,
    iterate=iterate,
    check=check,
)
