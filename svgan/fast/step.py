"""`svgan.step.iterate` with the gradients of `critic` and `generator`: same draws, same exchange, same optimisers.

The generator stands still while the critic moves, so the fakes of all its turns come from one rollout.
"""

from __future__ import annotations

import torch
from torch import Tensor

from svgan import rng, step
from svgan.codes_state import CodesState
from svgan.distributed import Process
from svgan.fast.critic import ByHand, Fakes, critic_gradients
from svgan.fast.generator import fakes, generator_gradients, gru
from svgan.fast.precision import products
from svgan.memory import keep_memory
from svgan.motion.noise import Noise
from svgan.motion.recurrence import unroll_fused
from svgan.step import Clips


def iterate(state: CodesState, clips: Clips, process: Process) -> dict[str, Tensor]:
    """Train critic and generator once, in place, as `svgan.step.iterate` does."""
    figures: dict[str, Tensor] = {}
    if state.device.type == "cpu":
        keep_memory()
    if ByHand.of(state.critic) is None:
        for turn in range(state.config.n_critic):
            figures |= step.critic_step(state, clips, process, turn)
    else:
        for turn, generated in enumerate(all_fakes(state, process)):
            figures |= critic_step(state, clips, process, turn, generated)
    return figures | generator_step(state, process)


def critic_step(state: CodesState, clips: Clips, process: Process, turn: int, generated: Fakes) -> dict[str, Tensor]:
    """`svgan.step.critic_step` against these fakes."""
    config, own = state.config, rng.own_slice(state.config.batch, process.rank, process.world)
    where = {"rank": process.rank, "world": process.world}
    real = clips.draw(config.batch, seed=config.seed, step=state.step, stream=turn, **where)
    eps = torch.rand(config.batch, generator=step.generator(state, "eps", turn), device=state.device)[own]
    critic = ByHand.of(state.critic)
    assert critic is not None
    with products(state):
        gradients, figures = critic_gradients(state.critic, critic, real, generated, eps, config.gp_weight)
    return step.descend(state, "critic", gradients, figures, (), process)


def generator_step(state: CodesState, process: Process) -> dict[str, Tensor]:
    """`svgan.step.generator_step`."""
    found = generator_gradients(state, draw_noise(state, process, "generator", 0), step.gap_weight(state))
    figures = step.descend(state, "motion", found.gradients, found.figures, found.moments, process)
    step.follow(state, found.moments)
    return figures


@torch.no_grad()
def all_fakes(state: CodesState, process: Process) -> list[Fakes]:
    """What the critic judges in each of its turns."""
    motion = gru(state)
    drawn = [draw_noise(state, process, "critic", turn) for turn in range(state.config.n_critic)]
    noise = Noise(torch.cat([one.i for one in drawn]), torch.cat([one.s for one in drawn]))
    later, _ = unroll_fused(motion.cells, noise.s.transpose(0, 1), motion.first_memory(noise.i))
    with products(state):
        made = fakes(state, torch.cat([noise.i[:, None], later.transpose(0, 1)], 1), len(drawn))
    features = made.features.chunk(len(drawn))
    codes = [None] * len(drawn) if made.codes is None else made.codes.chunk(len(drawn))
    return [Fakes(f, made.affine, c) for f, c in zip(features, codes, strict=True)]


def draw_noise(state: CodesState, process: Process, stream: str, turn: int) -> Noise:
    """`svgan.step.draw_noise`, of a GRU."""
    noise = step.draw_noise(state, process, stream, turn)
    assert isinstance(noise, Noise)
    return noise
