"""One iteration: n_critic critic steps and a generator step, the plain form that `fast` is tested against.

Noise, clips and interpolation weights are drawn for the global batch and cut to this rank's slice, so that w workers
see what one would. A step computes gradients, averages them and everything it reports over the ranks in one
exchange, on a CPU looks for a non-finite number (by then on all ranks alike), and only then moves weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from svgan.errors import NonFiniteLoss
from svgan.motion.acyclic import AnchorNoise
from svgan.motion.gradient_angle import gap_distance, gradient_angle, gradient_angle_penalty
from svgan.motion.noise import Noise
from svgan.systems.stylevideogan.state import CodesState
from svgan.torch_utils import rng
from svgan.torch_utils.distributed import Process
from svgan.training import losses
from svgan.training.state import State


class Clips(Protocol):
    """Where training clips come from; `svgan.latents.clips.ClipSource` is one."""

    def draw(self, n: int, *, seed: int, step: int, stream: int = 0, rank: int = 0, world: int = 1) -> Tensor:
        """Rank's part [n / world, T, K] of a global draw of n clips, a pure function of the arguments."""
        ...


class Draws:
    """All that an iteration takes at random: this rank's part of draws for the global batch, made when asked for."""

    def __init__(self, state: CodesState, clips: Clips, process: Process) -> None:
        self.state, self.clips, self.process = state, clips, process

    def real(self, turn: int) -> Tensor:
        """Clips [B, T, K] for this turn of the critic."""
        config, where = self.state.config, {"rank": self.process.rank, "world": self.process.world}
        return self.clips.draw(config.batch, seed=config.seed, step=self.state.step, stream=turn, **where)

    def eps(self, turn: int) -> Tensor:
        """[B], where between a fake and a real clip the penalty looks."""
        batch, source = self.state.config.batch, generator(self.state, "eps", turn)
        drawn = torch.rand(batch, generator=source, device=self.state.device)
        return drawn[rng.own_slice(batch, self.process.rank, self.process.world)]

    def noise(self, stream: str, turn: int) -> Noise | AnchorNoise:
        """What clips are made from; stream: for whom, 'critic' or 'generator'."""
        return draw_noise(self.state, self.process, stream, turn)


def iterate(state: CodesState, clips: Clips, process: Process) -> dict[str, Tensor]:
    """Train critic and generator once, in place. Returns figures as 0-d tensors, means over ranks.

    On a CPU raises NonFiniteLoss, on all ranks, before the offending step reaches the weights (`descend`).
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
    gradients = torch.autograd.grad(total, list(state.critic.parameters()))
    return descend(state, "critic", gradients, {"critic_loss": loss, "gradient_penalty": penalty}, (), process)


def generator_step(state: CodesState, draws: Draws, process: Process) -> dict[str, Tensor]:
    """Minimise -E[C(fake)] + lambda_GAP L_GAP by one Adam step, then move the EMA and GAP's running moments."""
    with_gap, weight = state.config.gap_weight > 0, gap_weight(state)
    noise = draws.noise("generator", 0)
    if weight:
        assert isinstance(noise, Noise)  # the configuration refuses GAP without it
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
    gradients = torch.autograd.grad(total, list(state.motion.parameters()))
    figures = descend(state, "motion", gradients, figures, moments, process)
    follow(state, moments)
    return figures


@torch.no_grad()
def follow(state: CodesState, moments: Sequence[Tensor]) -> None:
    """Move the EMA after the generator, and GAP's running moments by the batch's, if there are any."""
    if moments:
        state.running.update(*moments)
    torch._foreach_lerp_(list(state.ema.parameters()), list(state.motion.parameters()), 1 - state.config.ema)


def descend(
    state: State,
    part: str,
    gradients: Sequence[Tensor],
    figures: dict[str, Tensor],
    extras: Sequence[Tensor],
    process: Process,
) -> dict[str, Tensor]:
    """One Adam step of a part of the state ('critic') along the gradients by its parameters, averaged over ranks.

    figures and extras are averaged in the same exchange; returned are the figures and the gradient's norm. On a CPU
    a number that is none raises NonFiniteLoss here. To look on a GPU is to wait for it, so there the weights take it,
    and whoever reads or keeps the figures raises (`svgan.training.state.Sums`): the checkpoint before stays whole.
    """
    module: nn.Module = getattr(state, part)
    optimizer: torch.optim.Optimizer = getattr(state, f"{part}_optimizer")
    parameters = list(module.parameters())
    gradients = [gradient.contiguous() for gradient in gradients]  # fused Adam takes memory's order (docs/traps.md)
    figures = {name: losses.wide(value.detach()).clone() for name, value in figures.items()}
    process.mean_([*gradients, *figures.values(), *extras])
    figures[f"{part}_gradient_norm"] = torch.nn.utils.get_total_norm(gradients)
    if state.device.type == "cpu":
        require_finite(figures, state.step)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return figures


def require_finite(figures: dict[str, Tensor], step: int) -> None:
    """Raise NonFiniteLoss naming the first figure that is NaN or infinite."""
    values = torch.stack(list(figures.values()))
    if not bool(values.isfinite().all()):
        name, value = next((n, float(v)) for n, v in figures.items() if not bool(v.isfinite()))
        raise NonFiniteLoss(f"{name} is {value} at step {step}; the weights are those of the step before")


def draw_noise(state: CodesState, process: Process, stream: str, turn: int) -> Noise | AnchorNoise:
    """This rank's part of the global batch of noise."""
    config = state.config
    noise = state.motion.draw(config.batch, config.window, generator(state, stream, turn))
    return noise[rng.own_slice(config.batch, process.rank, process.world)]


def autocast(state: State) -> torch.autocast:
    """bfloat16 where config.precision asks for it. Gradients by float32 inputs (the penalties') stay float32."""
    return torch.autocast(state.device.type, torch.bfloat16, enabled=state.config.precision == "bfloat16")


def gap_weight(state: CodesState) -> float:
    """lambda_GAP of this generator step: gap_every times the configuration's in every gap_every-th, else 0."""
    config = state.config
    return 0.0 if state.step % config.gap_every else config.gap_every * config.gap_weight


def generator(state: CodesState, stream: str, turn: int) -> torch.Generator:
    return rng.generator(state.device, state.config.seed, state.step, stream, turn)
