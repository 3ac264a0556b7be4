"""P of systems.md 1.3: four stacked GRU cells over any number of frames, and the weights they start from.

The parameters are those of a torch `nn.GRU`. Axes: B clip, T frame, Z noise.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELLS = 4
SLOWNESS = (1.0, 1.0, 1.0, 3.0)  # initial biases of the update gates: memories keep 0.73 and 0.95 of themselves a frame
DEEP_GAIN = 4.0  # of the input weights of cells 2 to 4: makes up for the smaller spread of a memory against noise


@torch.no_grad()
def start_stationary(cells: nn.GRU) -> None:
    """Weights with which the memories neither die out nor shake, however long the rollout (ours).

    With torch's own, the noise fades from cell to cell (after a few dozen frames the fourth memory's spread is a
    thirtieth of i's) and codes correlate by 0.87 from frame to frame. With these the spread stays at half of i's, and
    codes correlate by 0.994 over one frame, 0.92 over 5 and 0.44 over 24, at the start of a rollout and late in it;
    the leading components of a talking face at 25 fps have 0.995, 0.95 and 0.77.
    """
    width = cells.hidden_size
    for cell, (slowness, (w_input, w_memory, b_input, _)) in enumerate(zip(SLOWNESS, cells.all_weights, strict=True)):
        gain = DEEP_GAIN if cell else 1.0
        w_input[2 * width :].normal_(0, gain / math.sqrt(w_input.shape[1]))
        nn.init.orthogonal_(w_memory[2 * width :])
        b_input[width : 2 * width] += slowness


def unroll_fused(cells: nn.GRU, s: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """`unroll_plain` by torch's own GRU: faster, but once differentiable at most."""
    return cells(s.contiguous(), memory)


def unroll_plain(cells: nn.GRU, s: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """s [T', B, Z] and memory [4, B, width] to the last cell's outputs [T', B, width] and the memory after them.

    In operations that can be differentiated twice. Cell c works on frame k while cell c - 1 works on frame k + 1, so
    at every tick all cells but those that have not begun or are done take one step together, as one product.
    """
    weights = cells.all_weights
    first = F.linear(s, weights[0][0], weights[0][2]).unbind(0)
    w_input = torch.stack([w[0] for w in weights[1:]]).transpose(1, 2)
    b_input = torch.stack([w[2] for w in weights[1:]])[:, None]
    w_memory = torch.stack([w[1] for w in weights]).transpose(1, 2)
    b_memory = torch.stack([w[3] for w in weights])[:, None]
    h, outputs = list(memory.unbind(0)), []
    for tick in range(len(s) + CELLS - 1):
        low, high = max(0, tick + 1 - len(s)), min(tick + 1, CELLS)
        fed = [first[tick][None]] if low == 0 else []
        if high > (deep := max(low, 1)):  # cells fed by the cell below them
            above = deep - 1, high - 1
            below = torch.stack(h[slice(*above)])
            fed.append(torch.baddbmm(part(b_input, *above), below, part(w_input, *above)))
        own = torch.stack(h[low:high])
        from_memory = torch.baddbmm(part(b_memory, low, high), own, part(w_memory, low, high))
        h[low:high] = gru_step(torch.cat(fed), from_memory, own).unbind(0)
        if high == CELLS:
            outputs.append(h[-1])
    return torch.stack(outputs), torch.stack(h)


def gru_step(from_input: Tensor, from_memory: Tensor, h: Tensor) -> Tensor:
    """r, z = sigmoid(x + m); n = tanh(x_n + r m_n); h' = (1 - z) n + z h, of products x, m [..., 3 width].

    Cho et al. 2014, in torch's form.
    """
    gates = (2 * h.shape[-1], h.shape[-1])
    (x, x_n), (m, m_n) = from_input.split(gates, -1), from_memory.split(gates, -1)
    r, z = torch.sigmoid(x + m).chunk(2, -1)
    n = torch.tanh(torch.addcmul(x_n, r, m_n))
    return torch.lerp(n, h, z)


def part(stacked: Tensor, low: int, high: int) -> Tensor:
    """stacked[low:high]; the whole without a slice, whose backward pass would copy it."""
    return stacked if (low, high) == (0, len(stacked)) else stacked[low:high]
