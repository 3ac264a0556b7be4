"""Closed forms of the recurrence P, a four-layer GRU (Fox et al. 2021, section 3.2): rollout, JVP and gradients.

**Wavefront.** Cell c works on frame k while cell c - 1 works on frame k + 1. So all four cells take one step together,
at every *tick*, as one batched product. At a tick each cell computes, from its input x, its memory h and its weights W,

    a = W [x, h] + b                          four pre-activations: reset, update, new from x, new from h
    h' = n + z (h - n),   n = tanh(a_x + r a_h),  r = sigmoid(a_r),  z = sigmoid(a_z)

**Gradients.** dh' = J da + z dh. J has one number per pre-activation, and is known for all ticks at once after the
rollout (`jacobians`).

**Gradients of a JVP.** Along a direction, h' changes by J times the change of a, plus z times the change of h. That
change depends on a through the change of J. So the gradient of a JVP needs no second autograd pass.

Cells that have not begun or have finished compute values that nobody reads; their gradients are zero. Clips are the
last axis, so that an operation on one gate works on one block of memory. At small sizes the number of operations is
the cost, so a tick takes a handful of them. No function here builds an autograd graph.

Axes: N tick (T' + 3), C cell (4), W width of a memory, Z noise. X is room for a cell's input, the larger of W and Z.
D = X + W + 1. T' frames after the first, B clip, P path (the rollout, its JVP).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from svgan.motion.recurrence import CELLS

GATES = 4
BLOCK = 9  # ticks per block, where all ticks could be one block: a block stays in a core's cache (bench/LOG.md)


@dataclass(frozen=True)
class Weights:
    """Weights of the four cells. joint [C, 4 W, D]: input weights, memory weights and biases, side by side.

    Gates have the order of the module's docstring. The input of cell 0 is noise, of width `noise`.
    """

    joint: Tensor
    noise: int

    @property
    def width(self) -> int:
        return self.joint.shape[1] // GATES

    @property
    def memory(self) -> slice:
        """The part of D that holds memories."""
        return slice(self.joint.shape[2] - self.width - 1, self.joint.shape[2] - 1)

    @classmethod
    @torch.no_grad()
    def from_gru(cls, cells: nn.GRU) -> Weights:
        """Copy the weights of a four-layer torch GRU."""
        width, noise = cells.hidden_size, cells.input_size
        joint = cells.all_weights[0][0].new_zeros(CELLS, GATES * width, max(width, noise) + width + 1)
        made = cls(joint, noise)
        for cell, (w_input, w_memory, b_input, b_memory) in enumerate(cells.all_weights):
            joint[cell, : 3 * width, : w_input.shape[1]] = w_input
            joint[cell, : 3 * width, -1] = b_input
            for own, theirs in zip(memory_gates(width), (slice(2 * width), slice(2 * width, None)), strict=True):
                joint[cell, own, made.memory] = w_memory[theirs]
                joint[cell, own, -1] += b_memory[theirs]
        return made

    def as_parameters(self) -> list[Tensor]:
        """These weights, or gradients of them, in the order and shapes of the GRU's `parameters()`."""
        width, found = self.width, list[Tensor]()
        for cell in range(CELLS):
            memory, bias = self.joint[cell, :, self.memory], self.joint[cell, :, -1]
            found += [
                self.joint[cell, : 3 * width, : width if cell else self.noise],
                torch.cat([memory[rows] for rows in memory_gates(width)]),
                bias[: 3 * width],
                torch.cat([bias[rows] for rows in memory_gates(width)]),
            ]
        return found


def memory_gates(width: int) -> tuple[slice, slice]:
    """The pre-activations that depend on a cell's memory: reset and update, and new from h."""
    return slice(2 * width), slice(3 * width, None)


@dataclass(frozen=True)
class Ticks:
    """Inputs of all cells. fed [N + 1, C, D, B]: [x, h, 1] before every tick; in a JVP [x, h, 0]."""

    fed: Tensor
    memory: slice

    @property
    def latents(self) -> Tensor:
        """The latents: the last cell's memory after each frame, [B, T', W]."""
        return self.fed[CELLS:, -1, self.memory].permute(2, 0, 1)


@dataclass(frozen=True)
class Rollout(Ticks):
    """A rollout of the four cells. gates [N, C, 4, W, B]: r, z, n, a_h."""

    gates: Tensor


@dataclass(frozen=True)
class Jacobians:
    """J [N, C, 4, W, B] and z [N, C, W, B] (`keep`) of a rollout: dh' = (sum over the four of J da) + z dh."""

    jacobian: Tensor
    keep: Tensor


@torch.no_grad()
def roll_out(weights: Weights, noise: Tensor, memory: Tensor) -> Rollout:
    """Roll P out over noise [B, T', Z], from the initial memory [C, B, W]."""
    # Buffers for every tick, filled with what is known at the start; views of them by tick.
    start = memory.transpose(1, 2).contiguous()
    fed = _input_buffer(weights, noise, start, 1)
    gates = fed.new_empty(len(fed) - 1, CELLS, GATES, weights.width, len(noise))
    a, r_and_z, entering = gates.flatten(2, 3).unbind(), gates[:, :, :2].unbind(), fed.unbind()
    r, z, n, a_h = (gate.unbind() for gate in gates.unbind(2))
    memories, passed, received = _views_by_tick(weights, fed)
    # Tick by tick: one product for all cells, the gates, the new memories, and each memory to the cell above.
    for tick in range(len(gates)):
        torch.bmm(weights.joint, entering[tick], out=a[tick])
        r_and_z[tick].sigmoid_()
        n[tick].addcmul_(r[tick], a_h[tick]).tanh_()
        torch.lerp(n[tick], memories[tick], z[tick], out=memories[tick + 1])
        received[tick + 1].copy_(passed[tick + 1])
        if tick < CELLS - 1:  # cells that have not begun keep their initial memory
            memories[tick + 1][tick + 1 :] = start[tick + 1 :]
    return Rollout(fed, weights.memory, gates)


def _input_buffer(weights: Weights, noise: Tensor, start: Tensor, one: float) -> Tensor:
    """The inputs of all cells at every tick, as far as they are known at the start."""
    batch, length, _ = noise.shape
    fed = start.new_zeros(length + CELLS, CELLS, weights.joint.shape[2], batch)
    fed[:length, 0, : weights.noise] = noise.permute(1, 2, 0)
    fed[0, :, weights.memory] = start
    fed[:, :, -1] = one
    return fed


def _views_by_tick(weights: Weights, fed: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """Views by tick: all memories, the memories that cells above take, and where those cells take them."""
    memories = fed[:, :, weights.memory]
    return memories.unbind(), memories[:, :-1].unbind(), fed[:, 1:, : weights.width].unbind()


@torch.no_grad()
def jacobians(rollout: Rollout) -> Jacobians:
    """J and z of every tick, from the gates of a rollout."""
    r, z, n, a_h = rollout.gates.unbind(2)
    h = rollout.fed[:-1, :, rollout.memory]
    jacobian = torch.empty_like(rollout.gates)
    by_r, by_z, by_n, by_h = jacobian.unbind(2)
    torch.addcmul(1 - z, 1 - z, n * n, value=-1, out=by_n)
    torch.mul(by_n, r, out=by_h)
    torch.mul(by_h, a_h, out=by_r).mul_(1 - r)
    torch.sub(h, n, out=by_z).mul_(z).mul_(1 - z)
    return Jacobians(jacobian, z)


@dataclass(frozen=True)
class Tangent(Ticks):
    """The JVP of a rollout. derivative: the JVP of its Jacobians."""

    derivative: Jacobians


@torch.no_grad()
def jvp(weights: Weights, rollout: Rollout, at: Jacobians, noise: Tensor, memory: Tensor) -> Tangent:
    """The JVP of a rollout with the direction noise [B, T', Z], memory [C, B, W] (of the initial memory)."""
    start = memory.transpose(1, 2).contiguous()
    fed, moved = _input_buffer(weights, noise, start, 0), torch.empty_like(rollout.gates)
    a, by_gate, entering = moved.flatten(2, 3).unbind(), moved.unbind(), fed.unbind()
    jacobian, keep = at.jacobian.unbind(), at.keep.unbind()
    memories, passed, received = _views_by_tick(weights, fed)
    for tick in range(len(moved)):
        torch.bmm(weights.joint, entering[tick], out=a[tick])
        torch.sum(jacobian[tick] * by_gate[tick], 1, out=memories[tick + 1])
        memories[tick + 1].addcmul_(keep[tick], memories[tick])
        received[tick + 1].copy_(passed[tick + 1])
        if tick < CELLS - 1:
            memories[tick + 1][tick + 1 :] = start[tick + 1 :]
    found = Jacobians(torch.empty_like(at.jacobian), torch.empty_like(at.keep))
    # The JVP of the Jacobians needs no recurrence: it is computed in blocks of ticks.
    for ticks in _blocks(len(moved)):
        _jacobians_jvp(rollout, at, fed[:-1, :, weights.memory], moved, ticks, found)
    return Tangent(fed, weights.memory, found)


def _blocks(ticks: int) -> list[slice]:
    return [slice(first, min(first + BLOCK, ticks)) for first in range(0, ticks, BLOCK)]


def _jacobians_jvp(rollout: Rollout, at: Jacobians, dh: Tensor, moved: Tensor, ticks: slice, found: Jacobians) -> None:
    """Write the JVP of `jacobians` at these ticks into `found`. dh: the memories' JVP; moved: the pre-activations'."""
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
def input_gradients(weights: Weights, at: Jacobians, by_latents: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the noise [B, T', Z] and of the initial memory [C, B, W], given by_latents [B, T', W]."""
    a, memory = _backward(weights, [at], by_latents[None])
    first = weights.joint[0, :, : weights.noise]
    return (first.T @ a[: by_latents.shape[1], 0, 0]).permute(2, 0, 1), memory[0]


@torch.no_grad()
def weight_gradients(weights: Weights, rollout: Rollout, at: Jacobians, by_latents: Tensor) -> tuple[Weights, Tensor]:
    """Gradients of the weights and of the initial memory [C, B, W], given by_latents [B, T', W]."""
    a, memory = _backward(weights, [at], by_latents[None])
    return _products(weights, [rollout], a), memory[0]


@torch.no_grad()
def weight_gradients_with_jvp(
    weights: Weights, rollout: Rollout, at: Jacobians, tangent: Tangent, by_latents: Tensor, by_moved: Tensor
) -> tuple[Weights, Tensor, Tensor]:
    """Gradients of the weights, of the initial memory [C, B, W] and of its JVP [C, B, W].

    by_latents, by_moved [B, T', W]: the gradients at the latents and at their JVP.
    """
    a, memory = _backward(weights, [at, tangent.derivative], torch.stack([by_latents, by_moved]))
    return _products(weights, [rollout, tangent], a), memory[0], memory[1]


def _products(weights: Weights, paths: Sequence[Ticks], a: Tensor) -> Weights:
    """Gradients of the weights from gradients at the pre-activations, a [N, P, C, 4 W, B]."""
    joint = torch.zeros_like(weights.joint)
    for of_path, path in zip(a.unbind(1), paths, strict=True):
        for ticks in _blocks(len(a)):
            joint.baddbmm_(_rows(of_path[ticks]), _rows(path.fed[ticks]).transpose(1, 2))
    return Weights(joint, weights.noise)


def _rows(x: Tensor) -> Tensor:
    """[N, C, F, B] to [C, F, N B]."""
    return x.permute(1, 2, 0, 3).flatten(2)


def _backward(weights: Weights, at: list[Jacobians], by_latents: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of all pre-activations [N, P, C, 4 W, B] and of the initial memory [P, C, B, W].

    by_latents [P, B, T', W]: gradients at the latents and, with P = 2, at their JVP. at: the rollout's Jacobians and,
    with P = 2, their JVP, through which the second gradient adds to the first.
    """
    # Buffers for every tick, and views of them.
    paths, batch, length, width = by_latents.shape
    ticks = length + CELLS - 1
    gradients = by_latents.new_empty(ticks, paths, CELLS, GATES, width, batch)
    by_h = by_latents.new_zeros(paths, CELLS, width, batch)  # at the memories after the tick
    start = torch.empty_like(by_h)
    given = by_latents.permute(2, 0, 3, 1).contiguous().unbind()
    transposed = weights.joint[:, :, :-1].transpose(1, 2).repeat(paths, 1, 1)
    by_fed = by_latents.new_empty(paths, CELLS, weights.joint.shape[2] - 1, batch)
    at_memory, at_input = by_fed[:, :, weights.memory], by_fed[:, 1:, :width]
    a, by_products = gradients.unbind(), gradients.view(ticks, paths * CELLS, GATES * width, batch).unbind()
    jacobian, keep = (
        [part.unbind() for part in parts] for parts in zip(*((s.jacobian, s.keep) for s in at), strict=True)
    )
    # From the last tick to the first: the latent's gradient joins, goes through J to the pre-activations, through the
    # weights to inputs and memories, and from a cell's input to the memory of the cell below.
    for tick in reversed(range(ticks)):
        if tick >= CELLS - 1:
            by_h[:, -1] += given[tick - CELLS + 1]
        torch.mul(jacobian[0][tick], by_h[:, :, None], out=a[tick])
        kept = keep[0][tick] * by_h
        if paths == 2:
            a[tick][0].addcmul_(jacobian[1][tick], by_h[1, :, None])
            kept[0].addcmul_(keep[1][tick], by_h[1])
        torch.bmm(transposed, by_products[tick], out=by_fed.flatten(0, 1))
        by_h = kept.add_(at_memory)
        by_h[:, :-1] += at_input
        if tick < CELLS:  # a cell that begins at this tick has reached its initial memory
            start[:, tick] = by_h[:, tick]
            by_h[:, tick] = 0
    return gradients.flatten(3, 4), start.transpose(2, 3)
