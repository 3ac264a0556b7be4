"""Closed forms of the generator's losses and their gradients: T and A with the critic behind them, P by the wavefront.

GAP's gradient with respect to the weights w is the gradient of a JVP:

    L_GAP depends on w through g, the distance's gradient with respect to the noise. With v = dL_GAP / dg held fixed,
    dL_GAP / dw = d(v . g) / dw, and v . g is the distance's JVP with the direction v.

So one JVP along v, and the gradient of that JVP, replace the differentiation of a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from svgan.motion.gradient_angle import EPSILON
from svgan.motion.gru import GRUMotion
from svgan.motion.noise import Noise
from svgan.systems.stylevideogan.fast import gru_wavefront, linear_chain
from svgan.systems.stylevideogan.fast.critic import Fakes, LinearCritic, folding_pays, generator_vjp
from svgan.systems.stylevideogan.fast.gru_wavefront import Jacobians, Rollout, Weights
from svgan.systems.stylevideogan.fast.initial_memory import InitialMemory
from svgan.systems.stylevideogan.fast.linear_chain import Layer, layers_of
from svgan.systems.stylevideogan.fast.precision import products
from svgan.systems.stylevideogan.state import CodesState


class Found(NamedTuple):
    """gradients: of the generator's parameters, in their order.

    moments: mean and mean square [width] of l_{T-1} - l_0; empty without GAP.
    """

    gradients: list[Tensor]
    figures: dict[str, Tensor]
    moments: Sequence[Tensor] = ()


def gru(state: CodesState) -> GRUMotion:
    """The generator. CodesConfig allows this iteration with a GRU only."""
    assert isinstance(state.motion, GRUMotion)
    return state.motion


def affine_of(motion: GRUMotion) -> Layer:
    """A and the codes' spread as one layer."""
    spread = motion.spread
    return Layer(motion.affine.weight * spread[:, None], motion.affine.bias * spread)


@torch.no_grad()
def fakes(state: CodesState, latents: Tensor, turns: int) -> Fakes:
    """Fake clips from latents [B, T, width] for the critic, which needs no gradients of them."""
    motion = gru(state)
    features = linear_chain.forward(layers_of(motion.trunk), normed(latents)[0]).out[-1]
    return as_fakes(state, features, affine_of(motion), turns)


def as_fakes(state: CodesState, features: Tensor, affine: Layer, turns: int = 1) -> Fakes:
    """turns: the number of equal parts in which the critic sees them."""
    critic = LinearCritic.from_module(state.critic)
    if critic is not None and folding_pays(features[..., 0].numel() // turns, affine, critic.layers[0]):
        return Fakes(features, affine, None)
    codes = torch.addmm(affine.bias, features.flatten(0, 1), affine.weight.T)
    return Fakes(features, affine, codes.view(*features.shape[:2], -1))


def generator_gradients(state: CodesState, noise: Noise, gap_weight: float) -> Found:
    """The gradients of -E[C(fake)] + gap_weight L_GAP."""
    motion = gru(state)
    path = ForwardPass.compute(motion, noise)
    latents = torch.cat([noise.i[:, None], path.rollout.latents], 1)
    with products(state):
        loss, by_latents, by_late = through_the_critic(state, latents)
    figures = {"generator_loss": loss}
    if gap_weight:
        by_early, penalty, phi = with_gap(state, noise, path, by_latents[:, 1:], gap_weight)
        figures |= {"gap": penalty, "phi": phi.mean()}
    else:
        by_early = without_gap(path, by_latents[:, 1:])
    moved = path.rollout.latents[:, -1] - noise.i
    moments = [moved.mean(0), moved.square().mean(0)] if state.config.gap_weight else []
    return Found(in_order(motion, by_early, by_late), figures, moments)


@torch.no_grad()
def through_the_critic(state: CodesState, latents: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """-E[C(fake)], and its gradients at the latents [B, T, width] and of T's and A's parameters."""
    motion = gru(state)
    layers = layers_of(motion.trunk)
    x, scale = normed(latents)
    path = linear_chain.forward(layers, x)
    loss, by, by_weight, by_bias = generator_vjp(state.critic, as_fakes(state, path.out[-1], affine_of(motion)))
    found: list[Tensor] = []
    pulls = linear_chain.backward(layers, path, by.view_as(path.out[-1]))
    for layer, pull, rows in zip(layers, pulls, path.fed, strict=True):
        found += [linear_chain.weight_gradient(layer, pull, rows), pull.sum(0)]
    by_x = (pulls[0] @ layers[0].weight).view_as(x)
    by_latents = scale * (by_x - x * (by_x * x).mean(-1, keepdim=True))
    return loss, by_latents, [*found, by_weight * motion.spread[:, None], by_bias * motion.spread]


def normed(latents: Tensor) -> tuple[Tensor, Tensor]:
    """`layers.pixel_norm`, and what it multiplied by."""
    scale = torch.rsqrt(latents.square().mean(-1, keepdim=True) + 1e-8)
    return latents * scale, scale


class ForwardPass(NamedTuple):
    """From noise to latents."""

    first: InitialMemory
    weights: Weights
    rollout: Rollout
    slopes: Jacobians

    @classmethod
    def compute(cls, motion: GRUMotion, noise: Noise) -> ForwardPass:
        first, weights = InitialMemory.compute(motion, noise.i), Weights.from_gru(motion.cells)
        rollout = gru_wavefront.roll_out(weights, noise.s, first.memory)
        return cls(first, weights, rollout, gru_wavefront.jacobians(rollout))


def without_gap(path: ForwardPass, by_latents: Tensor) -> list[Tensor]:
    """Gradients of H's and P's parameters, given by_latents [B, T - 1, width] at the latents after the first."""
    by_cells, by_memory = gru_wavefront.weight_gradients(path.weights, path.rollout, path.slopes, by_latents)
    return [*path.first.weight_gradients(by_memory), *by_cells.as_parameters()]


@torch.no_grad()
def with_gap(
    state: CodesState, noise: Noise, path: ForwardPass, by_latents: Tensor, weight: float
) -> tuple[list[Tensor], Tensor, Tensor]:
    """The gradients of `without_gap` plus those of weight times L_GAP; L_GAP and phi [B]."""
    # The distance of the last latent from the first, and its gradient at the latents.
    first, weights, rollout, slopes = path
    mean, spread = state.running.mean_and_spread()
    moved = (rollout.latents[:, -1] - noise.i - mean) / spread
    distance = (moved.square().sum(1, keepdim=True) + EPSILON).sqrt()
    by_end = moved / (spread * distance)  # and by the start its negative
    by_last = torch.zeros_like(by_latents)
    by_last[:, -1] = by_end

    # Its gradients g at the noise, the penalty of their angle, and the penalty's gradient v at g.
    by_s, by_memory = gru_wavefront.input_gradients(weights, slopes, by_last)
    by_i = first.input_gradient(by_memory) - by_end
    penalty, phi, along_i, along_s = along_the_gradient(by_i, by_s, weight)

    # The JVP along v, and the gradient of it and of the critic's loss together.
    start = first.jvp(along_i)
    tangent = gru_wavefront.jvp(weights, rollout, slopes, along_s, start.memory)
    ends = tangent.latents[:, -1] - along_i
    by_latents = by_latents.clone()
    by_latents[:, -1] += (ends / spread.square() - by_end * (by_end * ends).sum(1, keepdim=True)) / distance
    by_cells, by_memory, by_moved = gru_wavefront.weight_gradients_with_jvp(
        weights, rollout, slopes, tangent, by_latents, by_last
    )
    return [*first.weight_gradients(by_memory, start, by_moved), *by_cells.as_parameters()], penalty, phi


def along_the_gradient(by_i: Tensor, by_s: Tensor, weight: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """L_GAP, phi [B], and the gradients of weight times L_GAP at by_i and by_s.

    by_i [B, width], by_s [B, T - 1, Z]: the distance's gradients at the noise.
    """
    of_i, of_s = by_i.norm(dim=1), by_s.flatten(1).norm(dim=1)
    ratio = of_s / (of_i + EPSILON)
    phi = torch.atan(ratio)
    short = (math.pi / 4 - phi).clamp_min(0)
    by_ratio = -2 * weight / len(phi) * short / (1 + ratio.square()) / (of_i + EPSILON)
    along_i = torch.where(of_i > 0, -by_ratio * ratio / of_i, 0)[:, None] * by_i
    along_s = torch.where(of_s > 0, by_ratio / of_s, 0)[:, None, None] * by_s
    return short.square().mean(), phi, along_i, along_s


def in_order(motion: GRUMotion, by_early: Sequence[Tensor], by_late: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of H's, P's, T's and A's parameters, in the order of motion.parameters()."""
    owners = [motion.hallucinate, motion.cells, motion.trunk, motion.affine]
    parameters = [parameter for owner in owners for parameter in owner.parameters()]
    found = dict(zip(parameters, [*by_early, *by_late], strict=True))
    return [found[parameter] for parameter in motion.parameters()]
