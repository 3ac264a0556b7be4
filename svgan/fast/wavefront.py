"""The recurrence P (systems.md 1.3) by hand: rollouts, their derivative along a direction, and the gradients of both.

Cell c works on frame k while cell c - 1 works on frame k + 1, so that all four take one step together at every *tick*,
as one product. At a tick every cell makes, of what it is fed x, its memory h and its weights,

    a = W [x, h] + b                          four pre-activations: reset, update, new from x, new from h
    h' = n + z (h - n),   n = tanh(a_x + r a_h),  r = sigmoid(a_r),  z = sigmoid(a_z)

so dh' = J da + z dh, where J, one number for each pre-activation, is known for all ticks at once after the rollout.
Along a direction h' moves by J times a's movement and z times h's, and what that movement owes to a is J's own
movement: so the gradient of a derivative along a direction needs no second pass of automatic differentiation.

Cells that have not begun, or are done, work on numbers that nobody reads; their gradients are zero. Clips stand last
here, so that an operation on one gate is one on a block of memory. No function here leaves a graph.
Axes: N tick (T' + 3), C cell (4), W width of a memory, Z noise, T' frames after the first, B clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from svgan.motion.recurrence import CELLS

GATES = 4


@dataclass(frozen=True)
class Weights:
    """joint [C, 4 W, 2 W] and bias [C, 4 W, 1], gates in the order of the module's text; first [4 W, Z], cell 0's from
    the noise (its part of `joint` is zero)."""

    joint: Tensor
    bias: Tensor
    first: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, cells: nn.GRU) -> Weights:
        """Copies of those of a four-layer torch GRU."""
        width, zero = cells.hidden_size, cells.all_weights[0][0].new_zeros
        joint, bias = zero(CELLS, GATES * width, 2 * width), zero(CELLS, GATES * width, 1)
        first = zero(GATES * width, cells.input_size)
        for cell, (w_input, w_memory, b_input, b_memory) in enumerate(cells.all_weights):
            fed = joint[cell, :, :width] if cell else first
            fed[: 3 * width] = w_input
            bias[cell, : 3 * width, 0] = b_input
            for own, theirs in zip(of_memory(width), (slice(2 * width), slice(2 * width, None)), strict=True):
                joint[cell, own, width:] = w_memory[theirs]
                bias[cell, own, 0] += b_memory[theirs]
        return cls(joint, bias, first)

    def as_parameters(self) -> list[Tensor]:
        """In the order of the GRU's `parameters()`: what the numbers, as gradients by these weights, are by those."""
        width = self.joint.shape[-1] // 2
        found: list[Tensor] = []
        for cell in range(CELLS):
            fed = self.joint[cell, :, :width] if cell else self.first
            memory, bias = self.joint[cell, :, width:], self.bias[cell, :, 0]
            found += [
                fed[: 3 * width],
                torch.cat([memory[rows] for rows in of_memory(width)]),
                bias[: 3 * width],
                torch.cat([bias[rows] for rows in of_memory(width)]),
            ]
        return found


def of_memory(width: int) -> tuple[slice, slice]:
    """The pre-activations that a cell's memory has a part in: reset and update, new from h."""
    return slice(2 * width), slice(3 * width, None)


@dataclass(frozen=True)
class Ticks:
    """noise [T', Z, B]; fed [N + 1, C, 2 W, B]: [x, h] before every tick."""

    noise: Tensor
    fed: Tensor

    @property
    def latents(self) -> Tensor:
        """The last cell's memories after each frame, [B, T', W]."""
        return self.fed[CELLS:, -1, self.fed.shape[2] // 2 :].permute(2, 0, 1)


@dataclass(frozen=True)
class Rollout(Ticks):
    """gates [N, C, 4, W, B]: r, z, n, a_h."""

    gates: Tensor


@dataclass(frozen=True)
class Slopes:
    """J [N, C, 4, W, B] and z [N, C, W, B] of a rollout: dh' = sum over the four of J da, + z dh."""

    jacobian: Tensor
    keep: Tensor


@torch.no_grad()
def roll_out(weights: Weights, noise: Tensor, memory: Tensor) -> Rollout:
    """P over noise [B, T', Z] from memory [C, B, W]."""
    noise, start = noise.permute(1, 2, 0).contiguous(), memory.transpose(1, 2).contiguous()
    length, width = len(noise), start.shape[1]
    fed = _room_for(noise, start)
    gates = noise.new_empty(length + CELLS - 1, CELLS, GATES, width, noise.shape[2])
    base = _from_noise(weights, noise) + weights.bias
    memories, r_and_z = fed[:, :, width:].unbind(), gates[:, :, :2].unbind()
    r, z, n, a_h = (gate.unbind() for gate in gates.unbind(2))
    for tick, a in enumerate(gates.flatten(2, 3).unbind()):
        torch.baddbmm(base[tick] if tick < length else weights.bias, weights.joint, fed[tick], out=a)
        r_and_z[tick].sigmoid_()
        n[tick].addcmul_(r[tick], a_h[tick]).tanh_()
        torch.lerp(n[tick], memories[tick], z[tick], out=memories[tick + 1])
        _pass_on(fed, tick, start)
    return Rollout(noise, fed, gates)


def _room_for(noise: Tensor, start: Tensor) -> Tensor:
    cells, width, batch = start.shape
    fed = start.new_zeros(len(noise) + CELLS, cells, 2 * width, batch)
    fed[0, :, width:] = start
    return fed


def _from_noise(weights: Weights, noise: Tensor) -> Tensor:
    """What the noise [T', Z, B] adds to the pre-activations: [T', C, 4 W, B], zero but for cell 0."""
    base = noise.new_zeros(len(noise), CELLS, len(weights.first), noise.shape[2])
    torch.matmul(weights.first, noise, out=base[:, 0])
    return base


def _pass_on(fed: Tensor, tick: int, start: Tensor) -> None:
    """Feed the memories made at a tick to the cells above; a cell that has not begun keeps its start."""
    width, later = start.shape[1], fed[tick + 1]
    later[1:, :width] = later[:-1, width:]
    if tick + 1 < CELLS:
        later[tick + 1 :, width:] = start[tick + 1 :]


@torch.no_grad()
def slopes(rollout: Rollout) -> Slopes:
    r, z, n, a_h = rollout.gates.unbind(2)
    h = rollout.fed[:-1, :, r.shape[2] :]
    by_n = (1 - z) * (1 - n * n)
    by_h = by_n * r
    return Slopes(torch.stack([by_h * a_h * (1 - r), (h - n) * z * (1 - z), by_n, by_h], 2), z)


@dataclass(frozen=True)
class Tangent(Ticks):
    """A rollout's derivative along a direction, and that of its slopes."""

    slopes: Slopes


@torch.no_grad()
def along(weights: Weights, rollout: Rollout, at: Slopes, noise: Tensor, memory: Tensor) -> Tangent:
    """The derivative of `rollout` when its noise moves by noise [B, T', Z] and its first memory by memory [C, B, W]."""
    noise, start = noise.permute(1, 2, 0).contiguous(), memory.transpose(1, 2).contiguous()
    length, width = len(noise), start.shape[1]
    fed, moved = _room_for(noise, start), torch.empty_like(rollout.gates)
    base = _from_noise(weights, noise)
    memories = fed[:, :, width:].unbind()
    for tick, a in enumerate(moved.flatten(2, 3).unbind()):
        if tick < length:
            torch.baddbmm(base[tick], weights.joint, fed[tick], out=a)
        else:
            torch.bmm(weights.joint, fed[tick], out=a)
        torch.sum(at.jacobian[tick] * moved[tick], 1, out=memories[tick + 1])
        memories[tick + 1].addcmul_(at.keep[tick], memories[tick])
        _pass_on(fed, tick, start)
    return Tangent(noise, fed, _slopes_along(rollout, at, fed, moved))


def _slopes_along(rollout: Rollout, at: Slopes, fed: Tensor, moved: Tensor) -> Slopes:
    """The derivative of `slopes` in a direction in which [x, h] moves by fed and the pre-activations by moved."""
    r, z, n, a_h = rollout.gates.unbind(2)
    dr, dz, dn, da_h = moved.unbind(2)
    width = r.shape[2]
    h, dh = rollout.fed[:-1, :, width:], fed[:-1, :, width:]
    _, _, by_n, by_h = at.jacobian.unbind(2)
    dr, dz = dr * r * (1 - r), dz * z * (1 - z)
    dn = (1 - n * n) * (dn + dr * a_h + r * da_h)
    d_by_n = -dz * (1 - n * n) - 2 * (1 - z) * n * dn
    d_by_h = d_by_n * r + by_n * dr
    by_r = (d_by_h * a_h + by_h * da_h) * (1 - r) - by_h * a_h * dr
    by_z = (dh - dn) * z * (1 - z) + (h - n) * (1 - 2 * z) * dz
    return Slopes(torch.stack([by_r, by_z, d_by_n, d_by_h], 2), dz)


@torch.no_grad()
def by_inputs(weights: Weights, at: Slopes, by_latents: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient by noise [B, T', Z] and by the first memory [C, B, W] of what has by_latents [B, T', W] as its
    gradient by the latents."""
    a, memory = _back(weights, [at], by_latents[None])
    return (weights.first.T @ a[: by_latents.shape[1], 0, 0]).permute(2, 0, 1), memory[0]


@torch.no_grad()
def by_weights(weights: Weights, rollout: Rollout, at: Slopes, by_latents: Tensor) -> tuple[Weights, Tensor]:
    """The gradient by the weights, and by the first memory [C, B, W], of what has by_latents [B, T', W]."""
    a, memory = _back(weights, [at], by_latents[None])
    return _products([rollout], a), memory[0]


@torch.no_grad()
def by_weights_along(
    weights: Weights, rollout: Rollout, at: Slopes, tangent: Tangent, by_latents: Tensor, by_moved: Tensor
) -> tuple[Weights, Tensor, Tensor]:
    """Gradients by the weights, and by the first memory and its movement [C, B, W], of what has by_latents [B, T', W]
    as its gradient by the latents and by_moved [B, T', W] by their derivative along the direction."""
    a, memory = _back(weights, [at, tangent.slopes], torch.stack([by_latents, by_moved]))
    return _products([rollout, tangent], a), memory[0], memory[1]


def _products(paths: Sequence[Ticks], a: Tensor) -> Weights:
    """Gradients by the weights of gradients by pre-activations a [N, P, C, 4 W, B], P: of a rollout, of its tangent."""
    width, length = paths[0].fed.shape[2] // 2, len(paths[0].noise)
    fed = torch.stack([path.fed[:-1] for path in paths], 1)
    joint = torch.bmm(_rows(a), _rows(fed).transpose(1, 2))
    joint[0, :, :width] = 0
    noise = torch.stack([path.noise for path in paths], 1)[:, :, None]
    first = _rows(a[:length, :, :1])[0] @ _rows(noise)[0].T
    return Weights(joint, a[:, 0].sum((0, 3))[..., None], first)


def _rows(x: Tensor) -> Tensor:
    """[N, P, C, F, B] to [C, F, N P B]."""
    return x.permute(2, 3, 0, 1, 4).flatten(2)


def _back(weights: Weights, at: list[Slopes], by_latents: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by all pre-activations [N, P, C, 4 W, B] and by the first memory [P, C, B, W] of what has by_latents
    [P, B, T', W].

    at: the rollout's slopes and, with P = 2, their derivative along a direction; then what is second is by the
    derivatives along it, and by way of these slopes owes the first.
    """
    paths, batch, length, width = by_latents.shape
    ticks = length + CELLS - 1
    a = by_latents.new_empty(ticks, paths, CELLS, GATES, width, batch)
    by_h = by_latents.new_zeros(paths, CELLS, width, batch)  # by the memories after the tick
    start = torch.empty_like(by_h)
    by_latents = by_latents.permute(2, 0, 3, 1).contiguous()
    transposed = weights.joint.transpose(1, 2).repeat(paths, 1, 1)
    by_products = a.view(ticks, paths * CELLS, GATES * width, batch)
    for tick in reversed(range(ticks)):
        if tick >= CELLS - 1:
            by_h[:, -1] += by_latents[tick - CELLS + 1]
        torch.mul(at[0].jacobian[tick], by_h[:, :, None], out=a[tick])
        kept = at[0].keep[tick] * by_h
        if paths == 2:
            a[tick, 0].addcmul_(at[1].jacobian[tick], by_h[1, :, None])
            kept[0].addcmul_(at[1].keep[tick], by_h[1])
        by_fed = torch.bmm(transposed, by_products[tick]).view(paths, CELLS, 2 * width, batch)
        by_h = kept.add_(by_fed[:, :, width:])
        by_h[:, :-1] += by_fed[:, 1:, :width]
        if tick < CELLS:
            start[:, tick] = by_h[:, tick]
            by_h[:, tick] = 0
    return a.flatten(3, 4), start.transpose(2, 3)
