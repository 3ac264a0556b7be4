"""Everything that changes while a run trains, in one bundle that is saved and loaded whole.

Randomness and the data's order are functions of (seed, step) (`svgan.rng`), so the step stands for both.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from svgan.config import RunConfig
from svgan.critics import make_critic
from svgan.errors import UserError
from svgan.latents.stats import Space
from svgan.losses import EPSILON
from svgan.motion import make_motion
from svgan.motion.gru import GRUMotion

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


@dataclass
class Sums:
    """Figures summed since the last report, and over how many steps: a run that is cut between reports averages the
    same numbers as one that is not."""

    totals: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    def add(self, figures: Mapping[str, Tensor]) -> None:
        for name, value in figures.items():
            self.totals[name] = self.totals.get(name, 0) + value
        self.steps += 1

    def means(self) -> dict[str, float]:
        return {name: float(total) / self.steps for name, total in self.totals.items()}

    def to_json(self) -> dict[str, Any]:
        """float32 sums as numbers that JSON keeps exactly."""
        return {"totals": {name: float(total) for name, total in self.totals.items()}, "steps": self.steps}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], device: torch.device | str) -> Sums:
        totals = {name: torch.tensor(value, device=device) for name, value in values["totals"].items()}
        return cls(totals, int(values["steps"]))


@dataclass(eq=False)
class State:
    """A run at one step.

    motion trains, ema is its moving average, which samples. history: one dict of figures per report, with 'step'.
    sums: of the figures since the last report.
    meta: what the codes are ('domain' and 'latents' digests, 'fps'), carried into checkpoints for sampling.
    """

    config: RunConfig
    space: Space
    motion: GRUMotion
    ema: GRUMotion
    critic: nn.Module
    motion_optimizer: torch.optim.Adam
    critic_optimizer: torch.optim.Adam
    running: RunningMoments
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def build(
        cls, config: RunConfig, space: Space, meta: Mapping[str, Any] | None = None, device: torch.device | str = "cpu"
    ) -> State:
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
            motion_optimizer=_adam(motion, config),
            critic_optimizer=_adam(critic, config),
            running=RunningMoments(config.width).to(device),
            meta=dict(meta or {}),
        )

    @property
    def device(self) -> torch.device:
        return self.running.first.device

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, the state's own (not copies): weights, EMA, space, moments, Adam's averages."""
        modules = {"motion": self.motion, "ema": self.ema, "critic": self.critic}
        modules |= {"running": self.running, "space": self.space}
        named = {f"{name}.{key}": t for name, module in modules.items() for key, t in module.state_dict().items()}
        for name, module, optimizer in (
            ("motion_optimizer", self.motion, self.motion_optimizer),
            ("critic_optimizer", self.critic, self.critic_optimizer),
        ):
            for parameter_name, parameter in module.named_parameters():
                for key, tensor in optimizer.state[parameter].items():
                    named[f"{name}.{parameter_name}.{key}"] = tensor
        return named

    def continues(self, config: RunConfig) -> None:
        """Take `config` for the rest of the run; only `steps` may differ. Raises UserError for any other field."""
        ours, theirs = self.config.to_json(), config.to_json()
        changed = [
            f"{name} (the run to be resumed has {ours.get(name)}, asked for is {theirs.get(name)})"
            for name in ours | theirs
            if name != "steps" and ours.get(name) != theirs.get(name)
        ]
        if changed:
            raise UserError(f"{', '.join(changed)}: use the run's own configuration, or another folder")
        self.config = replace(self.config, steps=config.steps)


def _adam(module: nn.Module, config: RunConfig) -> torch.optim.Adam:
    """Adam whose averages exist from the start, so that a fresh state has every tensor a checkpoint has."""
    betas = (config.beta1, config.beta2)
    optimizer = torch.optim.Adam(module.parameters(), lr=config.lr, betas=betas, fused=True)
    for p in module.parameters():
        optimizer.state[p] = {
            "step": torch.zeros((), dtype=torch.float32, device=p.device),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
        }
    return optimizer
