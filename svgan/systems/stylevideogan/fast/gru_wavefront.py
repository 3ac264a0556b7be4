"""The recurrence P (systems.md 1.3) by hand: rollouts, their derivative along a direction, and the gradients of both.

Cell c works on frame k while cell c - 1 works on frame k + 1, so that all four take one step together at every *tick*,
as one product. At a tick every cell makes, of what it is fed x, its memory h and its weights,

    a = W [x, h] + b                          four pre-activations: reset, update, new from x, new from h
    h' = n + z (h - n),   n = tanh(a_x + r a_h),  r = sigmoid(a_r),  z = sigmoid(a_z)

so dh' = J da + z dh, where J, one number for each pre-activation, is known for all ticks at once after the rollout.
Along a direction h' moves by J times a's movement and z times h's, and what that movement owes to a is J's own
movement: so the gradient of a derivative along a direction needs no second pass of automatic differentiation.

Cells that have not begun, or are done, work on numbers that nobody reads; their gradients are zero. Clips stand last
here, so that an operation on one gate is one on a block of memory; a tick costs a handful of operations, for at small
sizes their number is the cost. No function here leaves a graph.
Axes: N tick (T' + 3), C cell (4), W width of a memory, Z noise, X room for what a cell is fed, the larger of W and Z,
D = X + W + 1, T' frames after the first, B clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from svgan.motion.recurrence import CELLS

GATES = 4
BLOCK = 9  # ticks that are worked on together where all could be: they stay in a core's cache (bench/LOG.md)


@dataclass(frozen=True)
class Weights:
    """joint [C, 4 W, D]: of what a cell is fed, of its memory, and its biases, gates in the order of the module's text;
    cell 0 is fed noise."""

    joint: Tensor
    noise: int

    @property
    def width(self) -> int:
        return self.joint.shape[1] // GATES

    @property
    def memory(self) -> slice:
        """Of D."""
        return slice(self.joint.shape[2] - self.width - 1, self.joint.shape[2] - 1)

    @classmethod
    @torch.no_grad()
    def of(cls, cells: nn.GRU) -> Weights:
        """Copies of those of a four-layer torch GRU."""
        width, noise = cells.hidden_size, cells.input_size
        joint = cells.all_weights[0][0].new_zeros(CELLS, GATES * width, max(width, noise) + width + 1)
        made = cls(joint, noise)
        for cell, (w_input, w_memory, b_input, b_memory) in enumerate(cells.all_weights):
            joint[cell, : 3 * width, : w_input.shape[1]] = w_input
            joint[cell, : 3 * width, -1] = b_input
            for own, theirs in zip(of_memory(width), (slice(2 * width), slice(2 * width, None)), strict=True):
                joint[cell, own, made.memory] = w_memory[theirs]
                joint[cell, own, -1] += b_memory[theirs]
        return made

    def as_parameters(self) -> list[Tensor]:
        """In the order of the GRU's `parameters()`: what the numbers, as gradients by these weights, are by those."""
        width, found = self.width, list[Tensor]()
        for cell in range(CELLS):
            memory, bias = self.joint[cell, :, self.memory], self.joint[cell, :, -1]
            found += [
                self.joint[cell, : 3 * width, : width if cell else self.noise],
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
    """fed [N + 1, C, D, B]: [x, h, 1] before every tick, of a movement [x, h, 0]."""

    fed: Tensor
    memory: slice

    @property
    def latents(self) -> Tensor:
        """The last cell's memories after each frame, [B, T', W]."""
        return self.fed[CELLS:, -1, self.memory].permute(2, 0, 1)


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
    start = memory.transpose(1, 2).contiguous()
    fed = _room_for(weights, noise, start, 1)
    gates = fed.new_empty(len(fed) - 1, CELLS, GATES, weights.width, len(noise))
    a, r_and_z, entering = gates.flatten(2, 3).unbind(), gates[:, :, :2].unbind(), fed.unbind()
    r, z, n, a_h = (gate.unbind() for gate in gates.unbind(2))
    memories, passed, received = _places(weights, fed)
    for tick in range(len(gates)):
        torch.bmm(weights.joint, entering[tick], out=a[tick])
        r_and_z[tick].sigmoid_()
        n[tick].addcmul_(r[tick], a_h[tick]).tanh_()
        torch.lerp(n[tick], memories[tick], z[tick], out=memories[tick + 1])
        received[tick + 1].copy_(passed[tick + 1])
        if tick < CELLS - 1:
            memories[tick + 1][tick + 1 :] = start[tick + 1 :]
    return Rollout(fed, weights.memory, gates)


def _room_for(weights: Weights, noise: Tensor, start: Tensor, one: float) -> Tensor:
    """What cells are fed before every tick, as far as it is known at the start."""
    batch, length, _ = noise.shape
    fed = start.new_zeros(length + CELLS, CELLS, weights.joint.shape[2], batch)
    fed[:length, 0, : weights.noise] = noise.permute(1, 2, 0)
    fed[0, :, weights.memory] = start
    fed[:, :, -1] = one
    return fed


def _places(weights: Weights, fed: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """By tick: all memories; those that the cells above are fed, and where those are fed them. A cell that has not
    begun keeps its start: its place is written again before it is read."""
    memories = fed[:, :, weights.memory]
    return memories.unbind(), memories[:, :-1].unbind(), fed[:, 1:, : weights.width].unbind()


@torch.no_grad()
def slopes(rollout: Rollout) -> Slopes:
    r, z, n, a_h = rollout.gates.unbind(2)
    h = rollout.fed[:-1, :, rollout.memory]
    jacobian = torch.empty_like(rollout.gates)
    by_r, by_z, by_n, by_h = jacobian.unbind(2)
    torch.addcmul(1 - z, 1 - z, n * n, value=-1, out=by_n)
    torch.mul(by_n, r, out=by_h)
    torch.mul(by_h, a_h, out=by_r).mul_(1 - r)
    torch.sub(h, n, out=by_z).mul_(z).mul_(1 - z)
    return Slopes(jacobian, z)


@dataclass(frozen=True)
class Tangent(Ticks):
    """A rollout's derivative along a direction, and that of its slopes."""

    slopes: Slopes


@torch.no_grad()
def along(weights: Weights, rollout: Rollout, at: Slopes, noise: Tensor, memory: Tensor) -> Tangent:
    """The derivative of `rollout` when its noise moves by noise [B, T', Z] and its first memory by memory [C, B, W]."""
    start = memory.transpose(1, 2).contiguous()
    fed, moved = _room_for(weights, noise, start, 0), torch.empty_like(rollout.gates)
    a, by_gate, entering = moved.flatten(2, 3).unbind(), moved.unbind(), fed.unbind()
    jacobian, keep = at.jacobian.unbind(), at.keep.unbind()
    memories, passed, received = _places(weights, fed)
    for tick in range(len(moved)):
        torch.bmm(weights.joint, entering[tick], out=a[tick])
        torch.sum(jacobian[tick] * by_gate[tick], 1, out=memories[tick + 1])
        memories[tick + 1].addcmul_(keep[tick], memories[tick])
        received[tick + 1].copy_(passed[tick + 1])
        if tick < CELLS - 1:
            memories[tick + 1][tick + 1 :] = start[tick + 1 :]
    found = Slopes(torch.empty_like(at.jacobian), torch.empty_like(at.keep))
    for ticks in _blocks(len(moved)):
        _slopes_along(rollout, at, fed[:-1, :, weights.memory], moved, ticks, found)
    return Tangent(fed, weights.memory, found)


def _blocks(ticks: int) -> list[slice]:
    return [slice(first, min(first + BLOCK, ticks)) for first in range(0, ticks, BLOCK)]


def _slopes_along(rollout: Rollout, at: Slopes, dh: Tensor, moved: Tensor, ticks: slice, found: Slopes) -> None:
    """The derivative of `slopes` in a direction in which the memories move by dh and the pre-activations by moved, into
    `found`, of these ticks."""
    r, z, n, a_h = rollout.gates[ticks].unbind(2)
    dr, dz, dn, da_h = moved[ticks].unbind(2)
    h, dh = rollout.fed[ticks, :, rollout.memory], dh[ticks]
    _, _, by_n, by_h = at.jacobian[ticks].unbind(2)
    still_r, still_z, still_n = 1 - r, 1 - z, 1 - n * n
    dr, dz = dr * r * still_r, torch.mul(dz, z, out=found.keep[ticks]).mul_(still_z)
    dn = (dn + dr * a_h).addcmul_(r, da_h).mul_(still_n)
    by_r, by_z, d_by_n, d_by_h = found.jacobian[ticks].unbind(2)
    torch.mul(still_z * n, dn, out=d_by_n).mul_(-2).addcmul_(dz, still_n, value=-1)
    torch.mul(d_by_n, r, out=d_by_h).addcmul_(by_n, dr)
    torch.mul(d_by_h, a_h, out=by_r).addcmul_(by_h, da_h).mul_(still_r).addcmul_(by_h * a_h, dr, value=-1)
    torch.mul(dh - dn, z, out=by_z).mul_(still_z).addcmul_((h - n).mul_(still_z - z), dz)


@torch.no_grad()
def by_inputs(weights: Weights, at: Slopes, by_latents: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient by noise [B, T', Z] and by the first memory [C, B, W] of what has by_latents [B, T', W] as its
    gradient by the latents."""
    a, memory = _back(weights, [at], by_latents[None])
    first = weights.joint[0, :, : weights.noise]
    return (first.T @ a[: by_latents.shape[1], 0, 0]).permute(2, 0, 1), memory[0]


@torch.no_grad()
def by_weights(weights: Weights, rollout: Rollout, at: Slopes, by_latents: Tensor) -> tuple[Weights, Tensor]:
    """The gradient by the weights, and by the first memory [C, B, W], of what has by_latents [B, T', W]."""
    a, memory = _back(weights, [at], by_latents[None])
    return _products(weights, [rollout], a), memory[0]


@torch.no_grad()
def by_weights_along(
    weights: Weights, rollout: Rollout, at: Slopes, tangent: Tangent, by_latents: Tensor, by_moved: Tensor
) -> tuple[Weights, Tensor, Tensor]:
    """Gradients by the weights, and by the first memory and its movement [C, B, W], of what has by_latents [B, T', W]
    as its gradient by the latents and by_moved [B, T', W] by their derivative along the direction."""
    a, memory = _back(weights, [at, tangent.slopes], torch.stack([by_latents, by_moved]))
    return _products(weights, [rollout, tangent], a), memory[0], memory[1]


def _products(weights: Weights, paths: Sequence[Ticks], a: Tensor) -> Weights:
    """Gradients by the weights of gradients by pre-activations a [N, P, C, 4 W, B], P: of a rollout, of its tangent."""
    joint = torch.zeros_like(weights.joint)
    for of_path, path in zip(a.unbind(1), paths, strict=True):
        for ticks in _blocks(len(a)):
            joint.baddbmm_(_rows(of_path[ticks]), _rows(path.fed[ticks]).transpose(1, 2))
    return Weights(joint, weights.noise)


def _rows(x: Tensor) -> Tensor:
    """[N, C, F, B] to [C, F, N B]."""
    return x.permute(1, 2, 0, 3).flatten(2)


def _back(weights: Weights, at: list[Slopes], by_latents: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by all pre-activations [N, P, C, 4 W, B] and by the first memory [P, C, B, W] of what has by_latents
    [P, B, T', W].

    at: the rollout's slopes and, with P = 2, their derivative along a direction; then what is second is by the
    derivatives along it, and by way of these slopes owes the first.
    """
    paths, batch, length, width = by_latents.shape
    ticks = length + CELLS - 1
    gradients = by_latents.new_empty(ticks, paths, CELLS, GATES, width, batch)
    by_h = by_latents.new_zeros(paths, CELLS, width, batch)  # by the memories after the tick
    start = torch.empty_like(by_h)
    given = by_latents.permute(2, 0, 3, 1).contiguous().unbind()
    transposed = weights.joint[:, :, :-1].transpose(1, 2).repeat(paths, 1, 1)
    by_fed = by_latents.new_empty(paths, CELLS, weights.joint.shape[2] - 1, batch)
    of_memory, of_fed = by_fed[:, :, weights.memory], by_fed[:, 1:, :width]
    a, by_products = gradients.unbind(), gradients.view(ticks, paths * CELLS, GATES * width, batch).unbind()
    jacobian, keep = (
        [part.unbind() for part in parts] for parts in zip(*((s.jacobian, s.keep) for s in at), strict=True)
    )
    for tick in reversed(range(ticks)):
        if tick >= CELLS - 1:
            by_h[:, -1] += given[tick - CELLS + 1]
        torch.mul(jacobian[0][tick], by_h[:, :, None], out=a[tick])
        kept = keep[0][tick] * by_h
        if paths == 2:
            a[tick][0].addcmul_(jacobian[1][tick], by_h[1, :, None])
            kept[0].addcmul_(keep[1][tick], by_h[1])
        torch.bmm(transposed, by_products[tick], out=by_fed.flatten(0, 1))
        by_h = kept.add_(of_memory)
        by_h[:, :-1] += of_fed
        if tick < CELLS:
            start[:, tick] = by_h[:, tick]
            by_h[:, tick] = 0
    return gradients.flatten(3, 4), start.transpose(2, 3)
