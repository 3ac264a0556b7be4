"""FID (Heusel et al. 2017, arXiv:1706.08500) with the network that defines it: Inception-v3 of 2015-12-05.

That graph differs from the usual Inception-v3: average pooling excludes its padding, and the last block uses max
pooling. Batch norm has no learned scale and eps 1e-3, and is folded into the convolutions. It gives 2048 features.
There is no classifier, so there is no Inception Score.

Axes: N picture, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.assets import cache
from svgan.errors import UserError
from svgan.metrics.frechet import frechet_distance
from svgan.metrics.moments import Moments

SIZE, FEATURES = 299, 2048
Layer = tuple[int, int, int] | tuple[int, int, int, int]  # outputs, kernel height, kernel width, stride (1)


class Conv(nn.Module):
    """Convolution with a folded batch norm, followed by ReLU; padded to keep the size, or not at all."""

    def __init__(self, inputs: int, layer: Layer, *, same: bool = True):
        super().__init__()
        outputs, height, width, *stride = layer
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, height, width))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.stride = stride[0] if stride else 1
        self.padding = (height // 2, width // 2) if same and self.stride == 1 else (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding).relu_()


class AveragePool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def tower(inputs: int, *layers: Layer, pooled: bool = False) -> nn.Sequential:
    """Consecutive convolutions, named as in the weights: conv, conv_1, conv_2."""
    row = nn.Sequential()
    if pooled:
        row.add_module("pool", AveragePool())
    for k, layer in enumerate(layers):
        row.add_module(f"conv_{k}" if k else "conv", Conv(inputs, layer))
        inputs = layer[0]
    return row


class Side(nn.Module):
    """Parallel branches, whose outputs are concatenated by channel in the given order."""

    def __init__(self, **branches: nn.Module):
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


class Fork(nn.Module):
    """The last two blocks, in which two towers end in parallel 1x3 and 3x1 convolutions."""

    def __init__(self, inputs: int, last_pool: str):
        super().__init__()
        self.last_pool = last_pool
        self.conv = Conv(inputs, (320, 1, 1))
        self.tower_conv = Conv(inputs, (384, 1, 1))
        self.tower_mixed_conv, self.tower_mixed_conv_1 = Conv(384, (384, 1, 3)), Conv(384, (384, 3, 1))
        self.tower_1_conv, self.tower_1_conv_1 = Conv(inputs, (448, 1, 1)), Conv(448, (384, 3, 3))
        self.tower_1_mixed_conv, self.tower_1_mixed_conv_1 = Conv(384, (384, 1, 3)), Conv(384, (384, 3, 1))
        self.tower_2_conv = Conv(inputs, (192, 1, 1))
        self.average = AveragePool()

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.tower_conv(x), self.tower_1_conv_1(self.tower_1_conv(x))
        pooled = self.average(x) if self.last_pool == "average" else F.max_pool2d(x, 3, stride=1, padding=1)
        wide = [self.tower_mixed_conv(a), self.tower_mixed_conv_1(a)]
        wide += [self.tower_1_mixed_conv(b), self.tower_1_mixed_conv_1(b)]
        return torch.cat([self.conv(x), *wide, self.tower_2_conv(pooled)], 1)


def block_a(inputs: int, pooled: int) -> Side:
    return Side(
        conv=Conv(inputs, (64, 1, 1)),
        tower=tower(inputs, (48, 1, 1), (64, 5, 5)),
        tower_1=tower(inputs, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        tower_2=tower(inputs, (pooled, 1, 1), pooled=True),
    )


def block_c(inputs: int, width: int) -> Side:
    """A block with kernels of size 7, split into rows and columns."""
    row, column = (width, 1, 7), (width, 7, 1)
    return Side(
        conv=Conv(inputs, (192, 1, 1)),
        tower=tower(inputs, (width, 1, 1), row, (192, 7, 1)),
        tower_1=tower(inputs, (width, 1, 1), column, row, column, (192, 1, 7)),
        tower_2=tower(inputs, (192, 1, 1), pooled=True),
    )


def layers() -> dict[str, nn.Module]:
    """All layers in order, under their names in the weights."""
    halve = nn.MaxPool2d(3, stride=2)
    return {
        "conv": Conv(3, (32, 3, 3, 2)),
        "conv_1": Conv(32, (32, 3, 3), same=False),
        "conv_2": Conv(32, (64, 3, 3)),
        "pool0": halve,
        "conv_3": Conv(64, (80, 1, 1)),
        "conv_4": Conv(80, (192, 3, 3), same=False),
        "pool1": halve,
        "mixed": block_a(192, 32),
        "mixed_1": block_a(256, 64),
        "mixed_2": block_a(288, 64),
        "mixed_3": Side(
            conv=Conv(288, (384, 3, 3, 2)), tower=tower(288, (64, 1, 1), (96, 3, 3), (96, 3, 3, 2)), pool=halve
        ),
        "mixed_4": block_c(768, 128),
        "mixed_5": block_c(768, 160),
        "mixed_6": block_c(768, 160),
        "mixed_7": block_c(768, 192),
        "mixed_8": Side(
            tower=tower(768, (192, 1, 1), (320, 3, 3, 2)),
            tower_1=tower(768, (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3, 2)),
            pool=halve,
        ),
        "mixed_9": Fork(1280, "average"),
        "mixed_10": Fork(2048, "maximum"),
    }


class Inception(nn.Module):
    """Map uint8 pictures [N, H, W, 3] to features [N, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for name, layer in layers().items():
            self.layers.add_module(name, layer)

    def features(self, x: Tensor) -> Tensor:
        """Map network input [N, 3, 299, 299], (v - 128) / 128, to features [N, 2048]."""
        return self.layers(x.contiguous(memory_format=torch.channels_last)).mean((2, 3))

    @torch.inference_mode()
    def forward(self, pictures: Tensor) -> Tensor:
        if pictures.ndim != 4 or pictures.shape[-1] != 3:
            raise UserError(f"Inception: pictures of shape {tuple(pictures.shape)}; it takes [N, H, W, 3]")
        return self.features(preprocess(pictures.to(next(self.parameters()).device)))


def preprocess(pictures: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] to [N, 3, 299, 299]: bilinear, antialiased when shrinking, then (v - 128) / 128."""
    x = pictures.permute(0, 3, 1, 2).float()
    if x.shape[2:] != (SIZE, SIZE):
        shrinks = max(x.shape[2:]) > SIZE
        x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=shrinks)
    return (x - 128) / 128


def fold(state: Mapping[str, Tensor], eps: float = 1e-3) -> dict[str, Tensor]:
    """Convert the asset's weights (`net.layers.*.weight, beta, mean, var`) to ours, with batch norm folded in."""
    ours: dict[str, Tensor] = {}
    for name in (key.removesuffix(".weight") for key in state if key.endswith(".weight")):
        gain = torch.rsqrt(state[f"{name}.var"].double() + eps)
        folded = state[f"{name}.weight"].double() * gain[:, None, None, None]
        ours[f"{name.removeprefix('net.')}.weight"] = folded.float()
        ours[f"{name.removeprefix('net.')}.bias"] = (state[f"{name}.beta"] - state[f"{name}.mean"] * gain).float()
    return ours


def load(device: str | torch.device = "cpu") -> Inception:
    """Load the network in float32; svgan.assets.cache fetches it if it is not in the cache."""
    from safetensors.torch import load_file

    network = Inception()
    network.load_state_dict(fold(load_file(cache.path("inception"))))
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def picture_moments(network: Inception, pictures: np.ndarray, batch: int = 16) -> Moments:
    """Compute moments of the features of uint8 pictures [N, H, W, 3]."""
    moments = Moments(FEATURES)
    for start in range(0, len(pictures), batch):
        moments.update(network(torch.from_numpy(np.ascontiguousarray(pictures[start : start + batch]))))
    return moments


def fid(real: Moments, fake: Moments) -> float:
    """FID. With fewer than about ten thousand pictures a side it is biased upwards: compare equal counts only."""
    return frechet_distance(real.mean, real.cov, fake.mean, fake.cov)
