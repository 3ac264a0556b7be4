"""Linear maps and LeakyReLUs in a row, by hand: forwards, backwards, and along a direction.

Between its bends such a chain is a product of matrices. So what leaves it moves, when what enters moves by v, by the
same product with the slopes held (`along`), and the gradient by what enters is the product of the transposes (`back`).
A gradient's own gradient by the weights needs no second differentiation: with g_l the gradient by layer l's outputs
and v_l the movement of its inputs, that of <g, v> is the sum over clips of g_l v_l^T (performance.md).

All tensors of frames are [N, T, F], clips first, and layers see their rows [N T, F]; a convolution over frames is a
Linear on rows of `kernel` frames. No function here leaves a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.torch_utils.layers import SLOPE

bend_back = torch.ops.aten.leaky_relu_backward.grad_input  # of the output, which has the sign of the input


@dataclass(frozen=True)
class Layer:
    """weight [outputs, inputs] and bias [outputs] of a Linear, with a LeakyReLU after it where `bent`. kernel, stride,
    padding: of a convolution, the inputs then being `kernel` frames of features in a row."""

    weight: Tensor
    bias: Tensor
    bent: bool = False
    kernel: int = 1
    stride: int = 1
    padding: int = 0

    def rows(self, x: Tensor) -> Tensor:
        """x [N, T, F] as the rows [N T', kernel F] that the weight is multiplied by; x itself where it can be."""
        if self.padding:
            x = F.pad(x, (0, 0, self.padding, self.padding))
        if self.kernel > 1:
            x = x.unfold(1, self.kernel, self.stride).transpose(2, 3)
        return x.reshape(-1, self.weight.shape[1])

    def frames(self, rows: Tensor, like: Tensor) -> Tensor:
        """The gradient by x, shaped as `like`, of what has this gradient by `rows(x)`."""
        clips, length, width = like.shape
        if self.kernel == 1:
            return rows.view(clips, length, width)
        parts = rows.view(clips, -1, self.kernel, width)
        if parts.shape[1] == 1 and self.kernel == length:
            return parts[:, 0]
        whole = rows.new_zeros(clips, length + 2 * self.padding, width)
        reach = (parts.shape[1] - 1) * self.stride + 1
        for k in range(self.kernel):
            whole[:, k : k + reach : self.stride] += parts[:, :, k]
        return whole[:, self.padding : self.padding + length]

    def out(self, rows: Tensor) -> Tensor:
        """What leaves the layer, as rows."""
        return self.bend(torch.addmm(self.bias, rows, self.weight.T))

    def bend(self, a: Tensor) -> Tensor:
        """In place."""
        return F.leaky_relu_(a, SLOPE) if self.bent else a

    def before_bend(self, by_out: Tensor, out: Tensor) -> Tensor:
        """In place, a gradient by what left the layer as one by what its LeakyReLU got; also a movement the other
        way."""
        return bend_back(by_out, out, SLOPE, True, grad_input=by_out) if self.bent else by_out


@dataclass(frozen=True)
class Path:
    """Clips on their way through a chain: the rows that each layer got, and what left it, [N, T, F]."""

    fed: list[Tensor]
    out: list[Tensor]


@torch.no_grad()
def layers_of(*parts: nn.Module) -> list[Layer]:
    """Sequentials of Linear, Conv1d and LeakyReLU one after the other; a Conv1d's frames are the last axis there and
    the middle one here. Raises TypeError for anything else."""
    found: list[Layer] = []
    for part in (layer for sequence in parts for layer in sequence.modules() if not isinstance(layer, nn.Sequential)):
        if isinstance(part, nn.Linear):
            found.append(Layer(part.weight, part.bias))
        elif isinstance(part, nn.Conv1d) and part.bias is not None:
            weight = part.weight.transpose(1, 2).flatten(1)
            kernel, stride, padding = part.kernel_size[0], part.stride[0], int(part.padding[0])
            found.append(Layer(weight, part.bias, False, kernel, stride, padding))
        elif isinstance(part, nn.LeakyReLU) and part.negative_slope == SLOPE and found and not found[-1].bent:
            found[-1] = Layer(**{**vars(found[-1]), "bent": True})
        else:
            raise TypeError(f"{part} is not a linear map, nor a LeakyReLU of {SLOPE} after one")
    return found


@torch.no_grad()
def forward(layers: Sequence[Layer], x: Tensor) -> Path:
    """Of x [N, T, F]."""
    path = Path([], [])
    onward(layers, path, x)
    return path


@torch.no_grad()
def onward(layers: Sequence[Layer], path: Path, x: Tensor) -> None:
    """Add to a path that has gone through all layers before."""
    for layer in layers:
        rows = layer.rows(x)
        out = layer.out(rows)
        x = out.view(len(x), -1, out.shape[1])
        path.fed.append(rows)
        path.out.append(x)


@torch.no_grad()
def back(layers: Sequence[Layer], path: Path, by_out: Tensor) -> list[Tensor]:
    """Gradients by every layer's linear outputs, as rows, of what has by_out [N, T, F] (which is used up) by the
    chain's."""
    found: list[Tensor] = []
    for index in reversed(range(len(layers))):
        layer = layers[index]
        by = layer.before_bend(by_out, path.out[index]).reshape(-1, len(layer.weight))
        found.append(by)
        if index:
            by_out = layer.frames(by @ layer.weight, path.out[index - 1])
    return found[::-1]


@torch.no_grad()
def along(layers: Sequence[Layer], path: Path, first: int, moved: Tensor) -> None:
    """Put the movement of clips `first` and later, where the path has held those clips, when the linear outputs of
    the first layer move by `moved` (rows, used up)."""
    for index, layer in enumerate(layers):
        if index:
            before = path.out[index - 1][first:]
            rows = path.fed[index]
            rows = rows[len(rows) // len(path.out[index]) * first :]
            if layer.kernel > 1:
                rows.copy_(layer.rows(before))
            moved = rows @ layer.weight.T
        held = path.out[index][first:]
        held.copy_(layer.before_bend(moved.view_as(held), held))


@torch.no_grad()
def movement(layers: Sequence[Layer], path: Path, x: Tensor) -> Path:
    """`along` from x [N, T, F], the movement of what enters, that leaves the path as it is."""
    found = Path([], [])
    for layer, out in zip(layers, path.out, strict=True):
        rows = layer.rows(x)
        x = layer.before_bend((rows @ layer.weight.T).view_as(out), out)
        found.fed.append(rows)
        found.out.append(x)
    return found


@torch.no_grad()
def by_weights(layer: Layer, by: Tensor, rows: Tensor) -> Tensor:
    """The gradient by the layer's weight, as the module had it, of rows that went in and gradients by what came out."""
    found = by.T @ rows
    return found.view(len(found), layer.kernel, -1).transpose(1, 2).contiguous() if layer.kernel > 1 else found
