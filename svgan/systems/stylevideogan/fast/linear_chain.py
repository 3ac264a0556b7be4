"""Closed forms for chains of Linear and LeakyReLU layers: forward, backward and Jacobian-vector product (JVP).

Where no pre-activation changes its sign, such a chain is a product of matrices. Its JVP with a direction v is that
product applied to v, with the LeakyReLU slopes of the forward pass (`jvp`). Its gradient with respect to the input is
the product of the transposed matrices (`backward`).

The gradient of <g, v> with respect to the weights, which a gradient penalty needs, takes no second differentiation.
With g_l the gradient at layer l's outputs and v_l the JVP at its inputs, it is the sum over clips of g_l v_l^T
(docs/papers.md).

Frames are tensors [N, T, F], clips first. Layers work on rows [N T, F]. A convolution over frames is a Linear layer on
rows of `kernel` frames. No function here builds an autograd graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.torch_utils.layers import SLOPE

leaky_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input  # takes the output: its sign is the input's


@dataclass(frozen=True)
class Layer:
    """A Linear layer, weight [outputs, inputs] and bias [outputs], with a LeakyReLU after it if `leaky`.

    kernel, stride, padding: of a convolution over frames; its inputs are the features of `kernel` frames.
    """

    weight: Tensor
    bias: Tensor
    leaky: bool = False
    kernel: int = 1
    stride: int = 1
    padding: int = 0

    def rows(self, x: Tensor) -> Tensor:
        """x [N, T, F] as the rows [N T', kernel F] that the weight multiplies; a view where possible."""
        if self.padding:
            x = F.pad(x, (0, 0, self.padding, self.padding))
        if self.kernel > 1:
            x = x.unfold(1, self.kernel, self.stride).transpose(2, 3)
        return x.reshape(-1, self.weight.shape[1])

    def frames(self, rows: Tensor, like: Tensor) -> Tensor:
        """The gradient with respect to x, in the shape of `like`, given the gradient with respect to `rows(x)`."""
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

    def forward(self, rows: Tensor) -> Tensor:
        """The layer's output, as rows."""
        return self.activate(torch.addmm(self.bias, rows, self.weight.T))

    def activate(self, a: Tensor) -> Tensor:
        """Apply the LeakyReLU, in place."""
        return F.leaky_relu_(a, SLOPE) if self.leaky else a

    def scale_by_slope(self, gradient: Tensor, out: Tensor) -> Tensor:
        """Multiply a gradient or a JVP by the LeakyReLU's slope at `out`, in place."""
        return leaky_relu_backward(gradient, out, SLOPE, True, grad_input=gradient) if self.leaky else gradient


@dataclass(frozen=True)
class Path:
    """A forward pass: the rows that each layer took, and its output [N, T, F]."""

    fed: list[Tensor]
    out: list[Tensor]


@torch.no_grad()
def layers_of(*parts: nn.Module) -> list[Layer]:
    """The layers of Sequentials of Linear, Conv1d and LeakyReLU, in order. Raises TypeError for any other module.

    Frames are the last axis of a Conv1d, and the middle axis here.
    """
    found: list[Layer] = []
    for part in (layer for sequence in parts for layer in sequence.modules() if not isinstance(layer, nn.Sequential)):
        if isinstance(part, nn.Linear):
            found.append(Layer(part.weight, part.bias))
        elif isinstance(part, nn.Conv1d) and part.bias is not None:
            weight = part.weight.transpose(1, 2).flatten(1)
            kernel, stride, padding = part.kernel_size[0], part.stride[0], int(part.padding[0])
            found.append(Layer(weight, part.bias, False, kernel, stride, padding))
        elif isinstance(part, nn.LeakyReLU) and part.negative_slope == SLOPE and found and not found[-1].leaky:
            found[-1] = Layer(**{**vars(found[-1]), "leaky": True})
        else:
            raise TypeError(f"{part} is not a linear map, nor a LeakyReLU of {SLOPE} after one")
    return found


@torch.no_grad()
def forward(layers: Sequence[Layer], x: Tensor) -> Path:
    """The forward pass of x [N, T, F]."""
    path = Path([], [])
    extend(layers, path, x)
    return path


@torch.no_grad()
def extend(layers: Sequence[Layer], path: Path, x: Tensor) -> None:
    """Continue a forward pass with more layers. x: the output of its last layer."""
    for layer in layers:
        rows = layer.rows(x)
        out = layer.forward(rows)
        x = out.view(len(x), -1, out.shape[1])
        path.fed.append(rows)
        path.out.append(x)


@torch.no_grad()
def backward(layers: Sequence[Layer], path: Path, by_out: Tensor) -> list[Tensor]:
    """The gradients at every layer's pre-activations, as rows, given the gradient by_out [N, T, F] at the chain's
    output. Overwrites by_out.
    """
    # From the last layer: through its LeakyReLU to the pre-activations, then through its weight to the layer below.
    found: list[Tensor] = []
    for index in reversed(range(len(layers))):
        layer = layers[index]
        by = layer.scale_by_slope(by_out, path.out[index]).reshape(-1, len(layer.weight))
        found.append(by)
        if index:
            by_out = layer.frames(by @ layer.weight, path.out[index - 1])
    return found[::-1]


@torch.no_grad()
def jvp_in_place(layers: Sequence[Layer], path: Path, first: int, moved: Tensor) -> None:
    """Replace clips `first` and later of a forward pass by their JVP.

    moved: the JVP at the first layer's pre-activations, as rows; overwritten.
    """
    # From the first layer: the JVP of the layer below as rows, in place of the forward pass; the weight; the slope.
    for index, layer in enumerate(layers):
        if index:
            before = path.out[index - 1][first:]
            rows = path.fed[index]
            rows = rows[len(rows) // len(path.out[index]) * first :]
            if layer.kernel > 1:
                rows.copy_(layer.rows(before))
            moved = rows @ layer.weight.T
        held = path.out[index][first:]
        held.copy_(layer.scale_by_slope(moved.view_as(held), held))


@torch.no_grad()
def jvp(layers: Sequence[Layer], path: Path, x: Tensor) -> Path:
    """The JVP of a forward pass with the direction x [N, T, F]. Leaves the path unchanged."""
    found = Path([], [])
    for layer, out in zip(layers, path.out, strict=True):
        rows = layer.rows(x)
        x = layer.scale_by_slope((rows @ layer.weight.T).view_as(out), out)
        found.fed.append(rows)
        found.out.append(x)
    return found


@torch.no_grad()
def weight_gradient(layer: Layer, by: Tensor, rows: Tensor) -> Tensor:
    """The gradient of a layer's weight, in its module's shape, from input rows and gradients at the pre-activations."""
    found = by.T @ rows
    return found.view(len(found), layer.kernel, -1).transpose(1, 2).contiguous() if layer.kernel > 1 else found
