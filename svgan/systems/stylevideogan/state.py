"""The state of a temporal GAN on codes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from svgan.latents.spaces import Space
from svgan.motion import AcyclicMotion, GRUMotion, make_motion
from svgan.motion.gradient_angle import EPSILON
from svgan.systems.stylevideogan.config import CodesConfig
from svgan.systems.stylevideogan.critics import make_critic
from svgan.training.state import State, make_adam

RUNNING_DECAY = 0.995  # of GAP's running moments (systems.md 1.5)


class RunningMoments(nn.Module):
    """Running mean and mean square, [width] each, of l_{T-1} - l_0; they start as those of N(0, 1)."""

    first: Tensor
    second: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("first", torch.zeros(width))
        self.register_buffer("second", torch.ones(width))

    def mean_and_spread(self) -> tuple[Tensor, Tensor]:
        """mu and sigma, with epsilon inside the square root."""
        variance = (self.second - self.first.square()).clamp_min(0)
        return self.first, (variance + EPSILON).sqrt()

    def update(self, first: Tensor, second: Tensor) -> None:
        """Move towards a batch's moments."""
        self.first.lerp_(first, 1 - RUNNING_DECAY)
        self.second.lerp_(second, 1 - RUNNING_DECAY)


@dataclass(eq=False, kw_only=True)
class CodesState(State):
    """motion trains, ema is its moving average. running: GAP's moments."""

    config: CodesConfig
    motion: GRUMotion | AcyclicMotion
    ema: GRUMotion | AcyclicMotion
    critic: nn.Module
    motion_optimizer: torch.optim.Adam
    critic_optimizer: torch.optim.Adam
    running: RunningMoments

    @classmethod
    def build(
        cls,
        config: CodesConfig,
        space: Space,
        meta: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Step 0: weights drawn from config.seed alone, the same on every rank and device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            motion, critic = make_motion(config, space.width), make_critic(config, space.width)
        motion.spread.copy_(space.spread)
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
            running=RunningMoments(config.width).to(device),
            meta=dict(meta or {}),
        )

    def modules(self) -> dict[str, nn.Module]:
        modules = {"motion": self.motion, "ema": self.ema, "critic": self.critic}
        return modules | {"running": self.running, "space": self.space}

    def optimizers(self) -> dict[str, tuple[nn.Module, torch.optim.Optimizer]]:
        return {
            "motion_optimizer": (self.motion, self.motion_optimizer),
            "critic_optimizer": (self.critic, self.critic_optimizer),
        }
