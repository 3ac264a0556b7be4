"""The generator's losses and their gradients by hand: T and A with the critic behind them, P by `wavefront`.

GAP's gradient by the weights is that of a derivative along a direction:

    L_GAP depends on the weights through g, the distance's gradient by the noise. With v = dL_GAP / dg held fixed,
    dL_GAP / dw = d(v . g) / dw, and v . g is the distance's derivative along v;

so one derivative forward along v, and one gradient of it, stand for differentiating a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from svgan import losses
from svgan.fast import chain, wavefront
from svgan.fast.chain import Layer, layers_of
from svgan.fast.critic import ByHand, Fakes, folding_pays, generator_pull
from svgan.fast.wavefront import Rollout, Slopes, Weights
from svgan.motion.gru import GRUMotion
from svgan.motion.noise import Noise
from svgan.motion.recurrence import CELLS
from svgan.state import State


class Found(NamedTuple):
    """gradients: by the generator's parameters, in their order. moments: of l_{T-1} - l_0, mean and mean square
    [width] each, where there is a GAP."""

    gradients: list[Tensor]
    figures: dict[str, Tensor]
    moments: Sequence[Tensor] = ()


def affine_of(motion: GRUMotion) -> Layer:
    """A and the codes' spread as one map."""
    spread = motion.spread
    return Layer(motion.affine.weight * spread[:, None], motion.affine.bias * spread)


@torch.no_grad()
def fakes(state: State, latents: Tensor, turns: int) -> Fakes:
    """Clips of latents [B, T, width], for the critic's turns; nothing is differentiated by them."""
    motion = state.motion
    features = chain.forward(layers_of(motion.trunk), normed(latents)[0]).out[-1]
    return as_fakes(state, features, affine_of(motion), turns)


def as_fakes(state: State, features: Tensor, affine: Layer, turns: int = 1) -> Fakes:
    """turns: in so many equal parts the critic will see them."""
    critic = ByHand.of(state.critic)
    if critic is not None and folding_pays(features[..., 0].numel() // turns, affine, critic.layers[0]):
        return Fakes(features, affine, None)
    codes = torch.addmm(affine.bias, features.flatten(0, 1), affine.weight.T)
    return Fakes(features, affine, codes.view(*features.shape[:2], -1))


def generator_gradients(state: State, noise: Noise) -> Found:
    """Of -E[C(fake)] + lambda_GAP L_GAP by the generator."""
    motion = state.motion
    path = Path.of(motion, noise)
    latents = torch.cat([noise.i[:, None], path.rollout.latents], 1)
    loss, by_latents, by_late = through_the_critic(state, latents)
    if not state.config.gap_weight:
        by_early = without_gap(motion, path, by_latents[:, 1:])
        return Found(in_order(motion, by_early, by_late), {"generator_loss": loss})
    by_early, penalty, phi = with_gap(state, noise, path, by_latents[:, 1:])
    moved = path.rollout.latents[:, -1] - noise.i
    figures = {"generator_loss": loss, "gap": penalty.detach(), "phi": phi.detach().mean()}
    return Found(in_order(motion, by_early, by_late), figures, [moved.mean(0), moved.square().mean(0)])


@torch.no_grad()
def through_the_critic(state: State, latents: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """-E[C(fake)] and its gradients by the latents [B, T, width] and by T's and A's parameters."""
    motion, layers = state.motion, layers_of(state.motion.trunk)
    x, scale = normed(latents)
    path = chain.forward(layers, x)
    loss, by, by_weight, by_bias = generator_pull(state.critic, as_fakes(state, path.out[-1], affine_of(motion)))
    found: list[Tensor] = []
    pulls = chain.back(layers, path, by.view_as(path.out[-1]))
    for layer, pull, rows in zip(layers, pulls, path.fed, strict=True):
        found += [chain.by_weights(layer, pull, rows), pull.sum(0)]
    by_x = (pulls[0] @ layers[0].weight).view_as(x)
    by_latents = scale * (by_x - x * (by_x * x).mean(-1, keepdim=True))
    return loss, by_latents, [*found, by_weight * motion.spread[:, None], by_bias * motion.spread]


def normed(latents: Tensor) -> tuple[Tensor, Tensor]:
    """`layers.pixel_norm`, and what it multiplied by."""
    scale = torch.rsqrt(latents.square().mean(-1, keepdim=True) + 1e-8)
    return latents * scale, scale


def first_memory(motion: GRUMotion, i: Tensor) -> Tensor:
    """`motion.first_memory` in plain operations: of torch's own layer norm the derivative along a direction has a
    wrong gradient (torch 2.13; docs/traps.md)."""
    hallucinated = standardised(motion.hallucinate(i).unflatten(1, (CELLS - 1, motion.memory)))
    return torch.cat([hallucinated, i[:, None]], 1).transpose(0, 1).contiguous()


def standardised(x: Tensor) -> Tensor:
    """Layer norm without weights over the last axis."""
    x = x - x.mean(-1, keepdim=True)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


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
        memory = first_memory(motion, i)
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

    memory, moved_memory = torch.func.jvp(partial(first_memory, motion), (noise.i,), (along_i,))[:2]
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
