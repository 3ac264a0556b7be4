"""`step.iterate` with closed-form gradients of `critic` and `generator`. Draws, exchange and optimisers are the same.

The generator does not change while the critic trains, so one rollout makes the fake clips of all critic steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from svgan.motion.noise import Noise
from svgan.motion.recurrence import unroll_fused
from svgan.systems.stylevideogan import step
from svgan.systems.stylevideogan.fast.critic import Fakes, LinearCritic, critic_gradients
from svgan.systems.stylevideogan.fast.generator import fakes, generator_gradients, gru
from svgan.systems.stylevideogan.fast.precision import products
from svgan.systems.stylevideogan.state import CodesState
from svgan.systems.stylevideogan.step import Clips, Draws
from svgan.torch_utils.distributed import Process
from svgan.torch_utils.malloc import keep_memory
from svgan.training.optimize import descend


def iterate(state: CodesState, clips: Clips, process: Process) -> dict[str, Tensor]:
    """Train critic and generator once, in place, as `step.iterate` does."""
    return move(state, Draws(state, clips, process), process)


def move(state: CodesState, draws: Draws, process: Process) -> dict[str, Tensor]:
    """`iterate`, given its random draws."""
    figures: dict[str, Tensor] = {}
    if state.device.type == "cpu":
        keep_memory()
    if LinearCritic.from_module(state.critic) is None:
        for turn in range(state.config.n_critic):
            figures |= step.critic_step(state, draws, process, turn)
    else:
        for turn, generated in enumerate(all_fakes(state, draws)):
            figures |= critic_step(state, draws, process, turn, generated)
    return figures | generator_step(state, draws, process)


def critic_step(state: CodesState, draws: Draws, process: Process, turn: int, generated: Fakes) -> dict[str, Tensor]:
    """The closed-form `step.critic_step`, with these fake clips."""
    critic, real, eps = LinearCritic.from_module(state.critic), draws.real(turn), draws.eps(turn)
    assert critic is not None
    with products(state):
        gradients, figures = critic_gradients(state.critic, critic, real, generated, eps, state.config.gp_weight)
    return descend(state, "critic", gradients, figures, (), process)


def generator_step(state: CodesState, draws: Draws, process: Process) -> dict[str, Tensor]:
    """The closed-form `step.generator_step`."""
    found = generator_gradients(state, noise_of(draws, "generator", 0), step.gap_weight(state))
    figures = descend(state, "motion", found.gradients, found.figures, found.moments, process)
    step.follow(state, found.moments)
    return figures


@torch.no_grad()
def all_fakes(state: CodesState, draws: Draws) -> list[Fakes]:
    """The fake clips of each critic step."""
    motion = gru(state)
    drawn = [noise_of(draws, "critic", turn) for turn in range(state.config.n_critic)]
    noise = Noise(torch.cat([one.i for one in drawn]), torch.cat([one.s for one in drawn]))
    later, _ = unroll_fused(motion.cells, noise.s.transpose(0, 1), motion.first_memory(noise.i))
    with products(state):
        made = fakes(state, torch.cat([noise.i[:, None], later.transpose(0, 1)], 1), len(drawn))
    features = made.features.chunk(len(drawn))
    codes = [None] * len(drawn) if made.codes is None else made.codes.chunk(len(drawn))
    return [Fakes(f, made.affine, c) for f, c in zip(features, codes, strict=True)]


def noise_of(draws: Draws, stream: str, turn: int) -> Noise:
    """The draws of a GRU's noise."""
    noise = draws.noise(stream, turn)
    assert isinstance(noise, Noise)
    return noise
