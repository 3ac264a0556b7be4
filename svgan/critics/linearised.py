"""A critic's gradient by its clip, in closed form.

Our critics are piecewise linear in the clip: Linear, Conv1d, averages and LeakyReLU, and nothing else. Around a clip
such a critic is a product of matrices, so its gradient by the clip is the product of their transposes through the
same fixed slopes: a pass that is itself differentiable once, where automatic differentiation would need two
(performance.md; tests/gradients compares both).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def forward(layers: nn.Sequential, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The layers' output, and what came into each of them, which `backward` needs."""
    entered = []
    for layer in layers:
        entered.append(x)
        x = layer(x)
    return x, entered


def backward(layers: nn.Sequential, entered: list[Tensor], gradient: Tensor) -> Tensor:
    """The gradient by the layers' input of what has `gradient` by their output; differentiable in their weights.

    Raises TypeError for a layer that is not linear between bends.
    """
    for layer, x in zip(reversed(list(layers)), reversed(entered), strict=True):
        if isinstance(layer, nn.LeakyReLU):
            gradient = torch.ops.aten.leaky_relu_backward(gradient.to(x.dtype), x, layer.negative_slope, False)
        elif isinstance(layer, nn.Linear):
            gradient = gradient @ layer.weight
        elif isinstance(layer, nn.Conv1d):
            gradient = _conv_backward(layer, x.shape[-1], gradient)
        else:
            raise TypeError(f"{type(layer).__name__} has no closed form here")
    return gradient


def _conv_backward(layer: nn.Conv1d, frames: int, gradient: Tensor) -> Tensor:
    kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
    whole = (gradient.shape[-1] - 1) * stride - 2 * padding + kernel
    return F.conv_transpose1d(gradient, layer.weight, None, stride, padding, frames - whole)
