"""StyleGAN-V as a system: its parts, and the material that it can learn from."""

from __future__ import annotations

import torch

from svgan.latents.spaces import Space, picture_space
from svgan.motion.acyclic import check_anchors
from svgan.systems.stylegan_v.config import StyleGANVConfig
from svgan.systems.stylegan_v.recipes import RECIPES
from svgan.systems.stylegan_v.source import SparseClips
from svgan.systems.stylegan_v.state import StyleGANVState, make_generator
from svgan.systems.stylegan_v.step import iterate
from svgan.training.data import Material
from svgan.training.registry import System


def fit_space(config: StyleGANVConfig, material: Material) -> Space:
    resolution = material.rendering_domain.config.resolution
    config.check_suits(resolution)
    return picture_space(material.latents, resolution)


def make_source(config: StyleGANVConfig, material: Material, space: Space, device: torch.device) -> SparseClips:
    return SparseClips(config, material.rendering_domain, material.latents, space, device, material.recorded)


def check(config: StyleGANVConfig, material: Material) -> None:
    """Raise UserError if the footage is too short for motion between anchors."""
    check_anchors(config.distance, material.latents.longest_run, material.latents.uri)


SYSTEM = System(
    config=StyleGANVConfig,
    state=StyleGANVState,
    recipes=RECIPES,
    motion=make_generator,
    space=fit_space,
    source=make_source,
    iterate=iterate,
    check=check,
)
