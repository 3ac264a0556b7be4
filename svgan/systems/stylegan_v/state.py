"""The state of a run of StyleGAN-V."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from svgan.images.stylegan2 import StyleGAN2Config
from svgan.latents.spaces import PictureSpace, Space
from svgan.motion.acyclic import AcyclicCodes
from svgan.systems.stylegan_v.augment import Adaptation
from svgan.systems.stylegan_v.config import StyleGANVConfig
from svgan.systems.stylegan_v.networks import HolisticDiscriminator, VideoGenerator
from svgan.training.state import State, make_adam


def make_generator(config: StyleGANVConfig, space: Space) -> VideoGenerator:
    """The generator that `config` describes."""
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
    """motion, the generator with its renderer, trains; ema is its moving average. adaptation: how often clips are
    augmented."""

    config: StyleGANVConfig
    motion: VideoGenerator
    ema: VideoGenerator
    critic: HolisticDiscriminator
    motion_optimizer: torch.optim.Adam
    critic_optimizer: torch.optim.Adam
    adaptation: Adaptation

    @classmethod
    def build(
        cls,
        config: StyleGANVConfig,
        space: Space,
        meta: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Step 0: weights drawn from config.seed alone, the same on every rank and device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            motion = make_generator(config, space)
            critic = HolisticDiscriminator(_sizes(config, space), config.frames, config.joined)
        ema = copy.deepcopy(motion).to(device).requires_grad_(False).eval()
        motion, critic = motion.to(device), critic.to(device)
        return cls(
            config=config,
            space=copy.deepcopy(space).to(device),
            motion=motion,
            ema=ema,
            critic=critic,
            motion_optimizer=make_adam(motion, config),
            critic_optimizer=make_adam(critic, config),
            adaptation=Adaptation().to(device),
            meta=dict(meta or {}),
        )

    def modules(self) -> dict[str, nn.Module]:
        modules = {"motion": self.motion, "ema": self.ema, "critic": self.critic}
        return modules | {"adaptation": self.adaptation, "space": self.space}

    def optimizers(self) -> dict[str, tuple[nn.Module, torch.optim.Optimizer]]:
        return {
            "motion_optimizer": (self.motion, self.motion_optimizer),
            "critic_optimizer": (self.critic, self.critic_optimizer),
        }
