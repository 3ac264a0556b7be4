"""The networks that a configuration names: the generator of codes and its critic.

To add a critic, add a file in `critics/` and a name in its `DESIGNS`. To add a motion model, add a file in
`svgan/motion` and a branch here.
"""

from __future__ import annotations

from torch import nn

from svgan.motion import AcyclicMotion, GRUMotion
from svgan.systems.stylevideogan.config import CodesConfig
from svgan.systems.stylevideogan.critics import DESIGNS


def make_motion(config: CodesConfig, width: int) -> GRUMotion | AcyclicMotion:
    """Make the generator for codes of `width` numbers (K)."""
    if config.motion == "acyclic":
        return AcyclicMotion(
            content=config.width,
            noise=config.noise,
            trunk=config.trunk,
            outputs=width,
            distance=config.distance,
            kernel=config.kernel,
        )
    return GRUMotion(memory=config.width, noise=config.noise, trunk=config.trunk, outputs=width)


def make_critic(config: CodesConfig, width: int) -> nn.Module:
    """Make the critic for clips of config.window frames of `width` numbers (K)."""
    critic = DESIGNS[config.critic](width, config.critic_widths, config.window, **config.critic_options())
    assert isinstance(critic, nn.Module)
    return critic
