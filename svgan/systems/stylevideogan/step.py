"""One iteration: n_critic critic steps and a generator step. `fast` is tested against this plain form.

`svgan.training.draws` defines how a step draws random numbers, `svgan.training.optimize` how it updates weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from svgan.motion.acyclic import AnchorNoise
from svgan.motion.gradient_angle import gap_distance, gradient_angle, gradient_angle_penalty
from svgan.motion.noise import Noise
from svgan.systems.stylevideogan.state import CodesState
from svgan.torch_utils.distributed import Process
from svgan.training import losses
from svgan.training.draws import draw_noise, own_part, stream
from svgan.training.optimize import autocast, descend, gradients, move_average


class Clips(Protocol):
    """The source of training clips; `svgan.latents.clips.ClipSource` implements it."""

    def draw(self, n: int, *, seed: int, step: int, stream: int = 0, rank: int = 0, world: int = 1) -> Tensor:
        """Return the rank's part [n / world, T, K] of a global draw of n clips, a pure function of the arguments."""
        ...


class Draws:
    """All random numbers of an iteration: this rank's part of draws for the global batch, made on request."""

    def __init__(self, state: CodesState, clips: Clips, process: Process) -> None:
        self.state, self.clips, self.process = state, clips, process

    def real(self, turn: int) -> Tensor:
        """Draw clips [B, T, K] for this turn of the critic."""
        config, where = self.state.config, {"rank": self.process.rank, "world": self.process.world}
        return self.clips.draw(config.batch, seed=config.seed, step=self.state.step, stream=turn, **where)

    def eps(self, turn: int) -> Tensor:
        """Draw the positions [B] between fake and real clips at which the gradient penalty is taken."""
        state = self.state
        drawn = torch.rand(state.config.batch, generator=stream(state, "eps", turn), device=state.device)
        return drawn[own_part(state, self.process)]

    def noise(self, part: str, turn: int) -> Noise | AnchorNoise:
        """Draw the noise of clips. part: 'critic' or 'generator', whose clips they are."""
        noise: Noise | AnchorNoise = draw_noise(self.state, self.process, part, turn)
        return noise


def iterate(state: CodesState, clips: Clips, process: Process) -> dict[str, Tensor]:
    """Train critic and generator once, in place; return metrics as 0-d tensors, means over ranks.

    On a CPU raises NonFiniteLoss, on all ranks, before the offending step changes the weights (`descend`).
    """
    draws, figures = Draws(state, clips, process), dict[str, Tensor]()
    for turn in range(state.config.n_critic):
        figures |= critic_step(state, draws, process, turn)
    return figures | generator_step(state, draws, process)


def critic_step(state: CodesState, draws: Draws, process: Process, turn: int) -> dict[str, Tensor]:
    """Minimise E[C(fake)] - E[C(real)] + lambda_GP L_GP by one Adam step."""
    config, real, eps = state.config, draws.real(turn), draws.eps(turn)
    with autocast(state):
        with torch.no_grad():
            fake, _ = state.motion(draws.noise("critic", turn))
        fake = fake.to(real.dtype)
        real_score, fake_score = losses.wide(state.critic(torch.cat([real, fake]))).chunk(2)
        loss = losses.wasserstein_critic(real_score, fake_score)
        penalty = losses.gradient_penalty(state.critic, real, fake, eps)
    total = loss + config.gp_weight * penalty
    figures = {"critic_loss": loss, "gradient_penalty": penalty}
    return descend(state, "critic", gradients(total, state.critic), figures, (), process)


def generator_step(state: CodesState, draws: Draws, process: Process) -> dict[str, Tensor]:
    """Minimise -E[C(fake)] + lambda_GAP L_GAP by one Adam step, then update the EMA and GAP's running moments."""
    with_gap, weight = state.config.gap_weight > 0, gap_weight(state)
    noise = draws.noise("generator", 0)
    if weight:
        assert isinstance(noise, Noise)  # the configuration refuses GAP with other noise
        noise = noise.requires_grad()
    with autocast(state):
        fake, latents = state.motion(noise)
        total = losses.wasserstein_generator(losses.wide(state.critic(fake)))
    figures, moments = {"generator_loss": total}, []
    if isinstance(noise, Noise) and weight:
        phi = gradient_angle(gap_distance(latents, *state.running.mean_and_spread()), noise)
        penalty = gradient_angle_penalty(phi)
        total = total + weight * penalty
        figures |= {"gap": penalty, "phi": phi.mean()}
    if with_gap:
        moved = (latents[:, -1] - latents[:, 0]).detach()
        moments = [moved.mean(0), moved.square().mean(0)]
    figures = descend(state, "motion", gradients(total, state.motion), figures, moments, process)
    follow(state, moments)
    return figures


@torch.no_grad()
def follow(state: CodesState, moments: Sequence[Tensor]) -> None:
    """Update the EMA, and GAP's running moments if moments of the batch are given."""
    if moments:
        state.running.update(*moments)
    move_average(state, state.config.ema)


def gap_weight(state: CodesState) -> float:
    """lambda_GAP of this generator step: gap_every times the configured weight in every gap_every-th step, else 0."""
    config = state.config
    return 0.0 if state.step % config.gap_every else config.gap_every * config.gap_weight
