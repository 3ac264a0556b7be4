"""The same gradients in fewer and larger operations.

Critic: the fakes of all its turns are one rollout, for the generator stands still meanwhile; the penalty's gradient by
the clip is taken in closed form (critics.linearised), one pass of differentiation for two.
Generator: P's rollout and its derivatives by hand, all cells at once (motion.wavefront). GAP's gradient by the
weights is that of a derivative along a direction:

    L_GAP depends on the weights through g, the distance's gradient by the noise. With v = dL_GAP / dg held fixed,
    dL_GAP / dw = d(v . g) / dw, and v . g is the distance's derivative along v;

so one derivative forward along v, and one gradient of it, stand for differentiating a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from svgan import losses
from svgan.critics import Critic
from svgan.gradients.found import Found
from svgan.motion import wavefront
from svgan.motion.gru import GRUMotion
from svgan.motion.noise import Noise
from svgan.motion.recurrence import unroll_fused
from svgan.motion.wavefront import Rollout, Slopes, Weights
from svgan.state import State


class Fast:
    def critic(self, state: State, real: Tensor, fake: Tensor, eps: Tensor) -> Found:
        real_score, fake_score = losses.wide(state.critic(torch.cat([real, fake]))).chunk(2)
        loss = losses.wasserstein_critic(real_score, fake_score)
        gradient = cast(Critic, state.critic).input_gradient(losses.mixed(real, fake, eps))
        penalty = losses.distance_from_one(losses.wide(gradient))
        total = loss + state.config.gp_weight * penalty
        found = torch.autograd.grad(total, list(state.critic.parameters()))
        return Found(list(found), {"critic_loss": loss, "gradient_penalty": penalty})

    def generator(self, state: State, noise: Noise) -> Found:
        motion = state.motion
        path = Path.of(motion, noise)
        latents = torch.cat([noise.i[:, None], path.rollout.latents], 1).requires_grad_()
        loss = losses.wasserstein_generator(losses.wide(state.critic(motion.decode(latents))))
        late = [*motion.trunk.parameters(), *motion.affine.parameters()]
        by_latents, *by_late = torch.autograd.grad(loss, [latents, *late])
        with torch.autocast(state.device.type, enabled=False):
            if not state.config.gap_weight:
                by_early = without_gap(motion, path, by_latents[:, 1:])
                return Found(in_order(motion, by_early, by_late), {"generator_loss": loss})
            by_early, penalty, phi = with_gap(state, noise, path, by_latents[:, 1:])
        figures = {"generator_loss": loss, "gap": penalty, "phi": phi.mean()}
        moments = losses.moments(path.rollout.latents[:, -1] - noise.i)
        return Found(in_order(motion, by_early, by_late), figures, moments)

    @torch.no_grad()
    def latents(self, state: State, noises: Sequence[Noise]) -> list[Tensor]:
        together = Noise(torch.cat([noise.i for noise in noises]), torch.cat([noise.s for noise in noises]))
        return list(state.motion.latents(together, unroll_fused).chunk(len(noises)))


class Path(NamedTuple):
    """From noise to latents. i takes gradients, and memory [4, B, width] is a differentiable function of it."""

    i: Tensor
    memory: Tensor
    weights: Weights
    rollout: Rollout
    slopes: Slopes

    @classmethod
    def of(cls, motion: GRUMotion, noise: Noise) -> Path:
        i = noise.i.detach().requires_grad_()
        with torch.autocast(i.device.type, enabled=False):
            memory = motion.first_memory(i)
            weights = Weights.of(motion.cells)
            rollout = wavefront.roll_out(weights, noise.s, memory)
            return cls(i, memory, weights, rollout, wavefront.slopes(rollout))


def without_gap(motion: GRUMotion, path: Path, by_latents: Tensor) -> list[Tensor]:
    """Gradients by H's and P's parameters of what has by_latents [B, T - 1, width] by the latents after the first."""
    by_cells, by_memory = wavefront.by_weights(path.weights, path.rollout, path.slopes, by_latents)
    by_first = torch.autograd.grad(path.memory, list(motion.hallucinate.parameters()), by_memory)
    return [*by_first, *by_cells.as_parameters()]


def with_gap(state: State, noise: Noise, path: Path, by_latents: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """`without_gap`'s with those of lambda_GAP L_GAP added; L_GAP and phi [B]."""
    motion, weights, rollout, slopes = state.motion, path.weights, path.rollout, path.slopes
    start, end = noise.i.detach().requires_grad_(), rollout.latents[:, -1].detach().requires_grad_()
    distance = losses.gap_distance(torch.stack([start, end], 1), *state.running.mean_and_spread())
    by_start, by_end = torch.autograd.grad(distance.sum(), (start, end), create_graph=True)
    by_last = torch.zeros_like(by_latents)
    by_last[:, -1] = by_end.detach()

    by_s, by_memory = wavefront.by_inputs(weights, slopes, by_last)
    (by_i,) = torch.autograd.grad(path.memory, path.i, by_memory)
    by_i = (by_i + by_start.detach()).requires_grad_()
    by_s = by_s.requires_grad_()
    phi = losses.angle(by_i, by_s)
    penalty = losses.gradient_angle_penalty(phi)
    along_i, along_s = torch.autograd.grad(state.config.gap_weight * penalty, (by_i, by_s))

    memory, moved_memory = torch.func.jvp(motion.first_memory, (noise.i,), (along_i,))[:2]
    tangent = wavefront.along(weights, rollout, slopes, along_s, moved_memory)
    slope = (by_end * tangent.latents[:, -1]).sum() + (by_start * along_i).sum()
    by_latents = by_latents.clone()
    by_latents[:, -1] += torch.autograd.grad(slope, end)[0]
    by_cells, by_memory, by_moved = wavefront.by_weights_along(weights, rollout, slopes, tangent, by_latents, by_last)
    by_first = torch.autograd.grad((memory, moved_memory), list(motion.hallucinate.parameters()), (by_memory, by_moved))
    return [*by_first, *by_cells.as_parameters()], penalty, phi


def in_order(motion: GRUMotion, by_early: Sequence[Tensor], by_late: Sequence[Tensor]) -> list[Tensor]:
    """Gradients by H's and P's parameters, then T's and A's, in the order of motion.parameters()."""
    owners = [motion.hallucinate, motion.cells, motion.trunk, motion.affine]
    parameters = [parameter for owner in owners for parameter in owner.parameters()]
    found = dict(zip(parameters, [*by_early, *by_late], strict=True))
    return [found[parameter] for parameter in motion.parameters()]
