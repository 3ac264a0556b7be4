"""MoCoGAN-HD as a system: its parts, and the material that it can learn from."""

from __future__ import annotations

import torch

from svgan.latents.spaces import Space
from svgan.systems.mocogan_hd.basis import w_space
from svgan.systems.mocogan_hd.config import MoCoConfig
from svgan.systems.mocogan_hd.recipes import RECIPES
from svgan.systems.mocogan_hd.source import FrameSource
from svgan.systems.mocogan_hd.state import MoCoState, make_lstm
from svgan.systems.mocogan_hd.step import iterate
from svgan.training.data import Material
from svgan.training.registry import System


def fit_space(config: MoCoConfig, material: Material) -> Space:
    domain = material.rendering_domain
    config.check_suits(domain.config.w_dim)
    return w_space(domain.generator, config.mapping_samples, config.seed)


def make_source(config: MoCoConfig, material: Material, space: Space, device: torch.device) -> FrameSource:
    footage = None if material.pictures is None else material.domain
    return FrameSource(config, material.rendering_domain, material.latents, space, device, material.recorded, footage)


SYSTEM = System(
    config=MoCoConfig,
    state=MoCoState,
    recipes=RECIPES,
    motion=make_lstm,
    space=fit_space,
    source=make_source,
    iterate=iterate,
)
