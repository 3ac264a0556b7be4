"""The training state of StyleGAN-V."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from svgan.images.stylegan2 import StyleGAN2Config
from svgan.latents.spaces import PictureSpace, Space
from svgan.motion.acyclic import AcyclicCodes
from svgan.systems.stylegan_v.augment import Adaptation
from svgan.systems.stylegan_v.config import StyleGANVConfig
from svgan.systems.stylegan_v.networks import HolisticDiscriminator, VideoGenerator
from svgan.training.state import State


def make_generator(config: StyleGANVConfig, space: Space) -> VideoGenerator:
    """Make the generator that `config` describes."""
    codes = AcyclicCodes(
        noise=config.width,
        width=config.width,
        frequencies=config.width // 2,
        distance=config.distance,
        kernel=config.kernel,
    )
    return VideoGenerator(_sizes(config, space), codes)


def _sizes(config: StyleGANVConfig, space: Space) -> StyleGAN2Config:
    assert isinstance(space, PictureSpace)
    return StyleGAN2Config(
        resolution=space.resolution,
        w_dim=config.width,
        mapping_layers=config.mapping_layers,
        channels=config.channels(space.resolution),
    )


@dataclass(eq=False, kw_only=True)
class StyleGANVState(State):
    """The state of StyleGAN-V: that of every run, its discriminator, and ADA.

    motion: the generator with its renderer. adaptation: the augmentation probability.
    """

    kept: ClassVar[tuple[str, ...]] = ("adaptation",)

    config: StyleGANVConfig
    motion: VideoGenerator
    ema: VideoGenerator
    critic: HolisticDiscriminator
    motion_optimizer: torch.optim.Adam
    critic_optimizer: torch.optim.Adam
    adaptation: Adaptation

    @classmethod
    def make_modules(cls, config: StyleGANVConfig, space: Space) -> dict[str, nn.Module]:
        motion = make_generator(config, space)
        critic = HolisticDiscriminator(_sizes(config, space), config.frames, config.joined)
        return {"motion": motion, "critic": critic, "adaptation": Adaptation()}
