"""One iteration: n_critic critic steps and a generator step. `svgan.gradients` says what moves the weights where.

Noise, clips and interpolation weights are drawn for the global batch and cut to this rank's slice, so that w workers
see what one would. A step computes gradients, averages them and everything it reports over the ranks in one
exchange, looks for a non-finite number (by then on all ranks alike), and only then moves weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from svgan import rng
from svgan.distributed import Process
from svgan.errors import NonFiniteLoss
from svgan.gradients import FAST, Found, Gradients
from svgan.motion.noise import Noise
from svgan.state import State


class Clips(Protocol):
    """Where training clips come from; `svgan.latents.clips.ClipSource` is one."""

    def draw(self, n: int, *, seed: int, step: int, stream: int = 0, rank: int = 0, world: int = 1) -> Tensor:
        """Rank's part [n / world, T, K] of a global draw of n clips, a pure function of the arguments."""
        ...


Iteration = Callable[[State, Clips, Process], dict[str, Tensor]]


def iterate(state: State, clips: Clips, process: Process, by: Gradients = FAST) -> dict[str, Tensor]:
    """Train critic and generator once, in place. Returns figures as 0-d tensors, means over ranks.

    Raises NonFiniteLoss, on all ranks, before the offending step reaches the weights.
    """
    figures: dict[str, Tensor] = {}
    with autocast(state):
        turns = by.latents(state, [draw_noise(state, process, "critic", k) for k in range(state.config.n_critic)])
    for turn, latents in enumerate(turns):
        figures |= critic_step(state, clips, process, turn, latents, by)
    return figures | generator_step(state, process, by)


def critic_step(
    state: State, clips: Clips, process: Process, turn: int, latents: Tensor, by: Gradients
) -> dict[str, Tensor]:
    """Minimise E[C(fake)] - E[C(real)] + lambda_GP L_GP by one Adam step.

    The fakes are the codes of latents [B, T, width].
    """
    config, own = state.config, rng.own_slice(state.config.batch, process.rank, process.world)
    where = {"rank": process.rank, "world": process.world}
    real = clips.draw(config.batch, seed=config.seed, step=state.step, stream=turn, **where)
    eps = torch.rand(config.batch, generator=_generator(state, "eps", turn), device=state.device)[own]
    with autocast(state):
        with torch.no_grad():
            fake = state.motion.decode(latents).to(real.dtype)
        found = by.critic(state, real, fake, eps)
    return descend(state, "critic", found, process)[0]


def generator_step(state: State, process: Process, by: Gradients) -> dict[str, Tensor]:
    """Minimise -E[C(fake)] + lambda_GAP L_GAP by one Adam step, then move the EMA and GAP's running moments."""
    with autocast(state):
        found = by.generator(state, draw_noise(state, process, "generator", 0))
    figures, moments = descend(state, "motion", found, process)
    if moments:
        state.running.update(*moments)
    with torch.no_grad():
        torch._foreach_lerp_(list(state.ema.parameters()), list(state.motion.parameters()), 1 - state.config.ema)
    return figures


def descend(state: State, part: str, found: Found, process: Process) -> tuple[dict[str, Tensor], list[Tensor]]:
    """One Adam step of `part` ('critic' or 'motion') along the gradients averaged over ranks.

    Figures and moments are averaged in the same exchange and returned; to the figures comes the gradient's norm.
    """
    module: nn.Module = getattr(state, part)
    optimizer: torch.optim.Optimizer = getattr(state, f"{part}_optimizer")
    figures = {name: value.detach().float().clone() for name, value in found.figures.items()}
    moments = [moment.detach().clone() for moment in found.moments]
    gradients = [gradient.contiguous() for gradient in found.gradients]
    process.mean_([*gradients, *figures.values(), *moments])
    figures[f"{part}_gradient_norm"] = torch.nn.utils.get_total_norm(gradients)
    require_finite(figures, state.step)
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return figures, moments


def require_finite(figures: dict[str, Tensor], step: int) -> None:
    """Raise NonFiniteLoss naming the first figure that is NaN or infinite."""
    values = torch.stack(list(figures.values()))
    if not bool(values.isfinite().all()):
        name, value = next((n, float(v)) for n, v in figures.items() if not bool(v.isfinite()))
        raise NonFiniteLoss(f"{name} is {value} at step {step}; the weights are those of the step before")


def draw_noise(state: State, process: Process, stream: str, turn: int) -> Noise:
    """This rank's part of the global batch of noise."""
    config = state.config
    noise = state.motion.draw(config.batch, config.window, _generator(state, stream, turn))
    return noise[rng.own_slice(config.batch, process.rank, process.world)]


def autocast(state: State) -> torch.autocast:
    """bfloat16 where config.precision asks for it. Gradients by float32 inputs (the penalties') stay float32."""
    return torch.autocast(state.device.type, torch.bfloat16, enabled=state.config.precision == "bfloat16")


def _generator(state: State, stream: str, turn: int) -> torch.Generator:
    return rng.generator(state.device, state.config.seed, state.step, stream, turn)
