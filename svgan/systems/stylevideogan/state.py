"""The training state of a temporal GAN on codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from svgan.latents.spaces import Space
from svgan.motion import AcyclicMotion, GRUMotion
from svgan.motion.gradient_angle import EPSILON
from svgan.systems.stylevideogan.config import CodesConfig
from svgan.systems.stylevideogan.networks import make_critic, make_motion
from svgan.training.state import State

RUNNING_DECAY = 0.995  # decay of GAP's running moments (our choice)


class RunningMoments(nn.Module):
    """Running mean and mean square, [width] each, of l_{T-1} - l_0; initially those of N(0, 1)."""

    first: Tensor
    second: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("first", torch.zeros(width))
        self.register_buffer("second", torch.ones(width))

    def mean_and_spread(self) -> tuple[Tensor, Tensor]:
        """Return mu and sigma, with epsilon inside the square root."""
        variance = (self.second - self.first.square()).clamp_min(0)
        return self.first, (variance + EPSILON).sqrt()

    def update(self, first: Tensor, second: Tensor) -> None:
        """Move towards the moments of a batch."""
        self.first.lerp_(first, 1 - RUNNING_DECAY)
        self.second.lerp_(second, 1 - RUNNING_DECAY)


@dataclass(eq=False, kw_only=True)
class CodesState(State):
    """The state of a temporal GAN on codes: that of every run, its critic, and `running`, the moments of GAP."""

    kept: ClassVar[tuple[str, ...]] = ("running",)

    config: CodesConfig
    motion: GRUMotion | AcyclicMotion
    ema: GRUMotion | AcyclicMotion
    critic: nn.Module
    motion_optimizer: torch.optim.Adam
    critic_optimizer: torch.optim.Adam
    running: RunningMoments

    @classmethod
    def make_modules(cls, config: CodesConfig, space: Space) -> dict[str, nn.Module]:
        motion, critic = make_motion(config, space.width), make_critic(config, space.width)
        motion.spread.copy_(space.spread)
        return {"motion": motion, "critic": critic, "running": RunningMoments(config.width)}
