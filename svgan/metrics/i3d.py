"""I3D (Carreira and Zisserman 2017, arXiv:1705.07750): the network whose Kinetics-400 logits FVD compares.

It is Inception-v1 inflated to three dimensions, RGB stream. Padding is TensorFlow's SAME (asymmetric where the stride
does not divide the length). Batch norm has no learned scale and eps 1e-3. For inference batch norms are folded into the
convolutions (exact), and the three pointwise convolutions at the start of each Mixed block run as one.

Parameters are named as in the usual PyTorch port, so that `fold` can load its checkpoints.

Axes: n clip, T frame, H x W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.assets import cache
from svgan.errors import UserError

Precision = Literal["float32", "bfloat16"]
SIZE = 224
MIN_FRAMES = 9  # fewer leave one time step before the last pooling, which needs two

# Mixed block: widths of b0, b1a, b1b, b2a, b2b, b3b (Szegedy et al. 2015, table 1)
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after by TensorFlow's SAME rule, with the odd one after."""
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def _pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    pads = [same_padding(n, k, s) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    flat = [p for pair in reversed(pads) for p in pair]
    return F.pad(x, flat) if any(flat) else x


class Conv(nn.Module):
    """Convolution of stride 1 with a folded batch norm, followed by ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv3d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2).relu_()


class Stem(Conv):
    """The first layer, 7x7x7 of stride 2 on 3 channels, computed as 4x4x4 of stride 1 on 24 channels.

    Every 2x2x2 cube becomes one pixel, and the kernel is padded to 8 with zeros, so the sums are the same in another
    order. With three channels vector units are mostly idle. Measured on one core in bfloat16 with 25 frames: 0.06 s
    instead of 0.40 s.
    """

    def __init__(self) -> None:
        super().__init__(24, 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv3d(cubes(x), self.weight, self.bias).relu_()


def cubes(x: Tensor) -> Tensor:
    """Rearrange [n, 3, T, H, W], padded by SAME for kernel 7 and stride 2, as [n, 24, T', H', W'] of 2x2x2 cubes."""
    pads = []
    for length in reversed(x.shape[2:]):
        before, _ = same_padding(length, 7, 2)
        pads += [before, 2 * (-(-length // 2) + 3) - length - before]
    x = F.pad(x, pads)
    n, c, t, h, w = x.shape
    x = x.reshape(n, c, t // 2, 2, h // 2, 2, w // 2, 2).permute(0, 2, 4, 6, 3, 5, 7, 1)
    return x.reshape(n, t // 2, h // 2, w // 2, 8 * c).permute(0, 4, 1, 2, 3)  # channels last in memory


def cube_weight(weight: Tensor) -> Tensor:
    """Rearrange the stem's kernel [64, 3, 7, 7, 7] for `cubes` as [64, 24, 4, 4, 4]."""
    out, c = weight.shape[:2]
    weight = F.pad(weight, (0, 1) * 3).reshape(out, c, 4, 2, 4, 2, 4, 2)
    return weight.permute(0, 3, 5, 7, 1, 2, 4, 6).reshape(out, 8 * c, 4, 4, 4)


class Pool(nn.Module):
    """Max pooling with SAME padding; zeros are correct, because its inputs come from a ReLU."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(_pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    """Four parallel branches: 1x1, 1x1-3x3, 1x1-3x3, pool-1x1."""

    def __init__(self, inputs: int, widths: tuple[int, ...]):
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = widths
        self.split = (b0, b1a, b2a)
        self.heads = Conv(inputs, b0 + b1a + b2a, 1)
        self.b1b, self.b2b, self.b3b = Conv(b1a, b1b, 3), Conv(b2a, b2b, 3), Conv(inputs, b3b, 1)
        self.pool = Pool((3, 3, 3), (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        b0, b1, b2 = self.heads(x).split(self.split, 1)
        return torch.cat([b0, self.b1b(b1), self.b2b(b2), self.b3b(self.pool(x))], 1)


class I3D(nn.Module):
    """Map uint8 video [n, T, H, W, 3] to Kinetics-400 logits [n, 400], averaged over time. T is at least 9."""

    def __init__(self) -> None:
        super().__init__()
        stages: dict[str, nn.Module] = {
            "Conv3d_1a_7x7": Stem(),
            "MaxPool3d_2a_3x3": Pool((1, 3, 3), (1, 2, 2)),
            "Conv3d_2b_1x1": Conv(64, 64, 1),
            "Conv3d_2c_3x3": Conv(64, 192, 3),
            "MaxPool3d_3a_3x3": Pool((1, 3, 3), (1, 2, 2)),
        }
        width = 192
        for name, widths in MIXED.items():
            if name == "Mixed_4b":
                stages["MaxPool3d_4a_3x3"] = Pool((3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                stages["MaxPool3d_5a_2x2"] = Pool((2, 2, 2), (2, 2, 2))
            stages[name] = Mixed(width, widths)
            width = widths[0] + widths[2] + widths[4] + widths[5]
        self.stages = nn.Sequential()
        for name, stage in stages.items():
            self.stages.add_module(name, stage)
        self.logits = nn.Linear(width, 400)

    def features(self, x: Tensor) -> Tensor:
        """Map network input [n, 3, T, 224, 224] in [-1, 1] to logits [n, 400], in the weights' precision."""
        x = self.stages(x.to(next(self.stages.parameters()).dtype))
        x = F.avg_pool3d(x.float(), (2, 7, 7), stride=1).mean((2, 3, 4))  # the last layer is linear: average first
        return self.logits(x)

    @torch.inference_mode()
    def forward(self, video: Tensor) -> Tensor:
        if video.ndim != 5 or video.shape[-1] != 3 or video.shape[1] < MIN_FRAMES:
            raise UserError(
                f"I3D: video of shape {tuple(video.shape)}; it takes [n, T, H, W, 3] with at least {MIN_FRAMES} frames"
            )
        return self.features(preprocess(video.to(self.logits.weight.device)))


def preprocess(video: Tensor) -> Tensor:
    """uint8 [n, T, H, W, 3] to [n, 3, T, 224, 224] in [-1, 1]: bilinear without antialiasing, then v / 127.5 - 1."""
    n, t, h, w, _ = video.shape
    frames = video.permute(0, 1, 4, 2, 3).reshape(n * t, 3, h, w).float()
    if (h, w) != (SIZE, SIZE):
        frames = F.interpolate(frames, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=False)
    return (frames / 127.5 - 1).reshape(n, t, 3, SIZE, SIZE).permute(0, 2, 1, 3, 4)


def fold(state: Mapping[str, Tensor], eps: float = 1e-3) -> dict[str, Tensor]:
    """Convert weights of the usual PyTorch port (`*.conv3d.*`, `*.bn.*`; bn.weight may be absent) to ours.

    A convolution followed by batch norm is one convolution: weight * g and bias - mean * g, g = scale / sqrt(var +
    eps). Raises UserError naming a missing parameter.
    """
    ours: dict[str, Tensor] = {}
    try:
        weight, bias = _folded(state, "Conv3d_1a_7x7", eps)
        ours |= _named("stages.Conv3d_1a_7x7", (cube_weight(weight), bias))
        for name in ("Conv3d_2b_1x1", "Conv3d_2c_3x3"):
            ours |= _named(f"stages.{name}", _folded(state, name, eps))
        for block in MIXED:
            heads = [_folded(state, f"{block}.{b}", eps) for b in ("b0", "b1a", "b2a")]
            merged = tuple(torch.cat(parts) for parts in zip(*heads, strict=True))
            ours |= _named(f"stages.{block}.heads", merged)
            for b in ("b1b", "b2b", "b3b"):
                ours |= _named(f"stages.{block}.{b}", _folded(state, f"{block}.{b}", eps))
        ours["logits.weight"] = state["logits.conv3d.weight"].flatten(1)
        ours["logits.bias"] = state["logits.conv3d.bias"]
    except KeyError as missing:
        raise UserError(f"I3D weights lack {missing}; `svgan assets i3d` fetches the right ones") from missing
    return ours


def _named(prefix: str, pair: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return {f"{prefix}.weight": pair[0], f"{prefix}.bias": pair[1]}


def _folded(state: Mapping[str, Tensor], name: str, eps: float) -> tuple[Tensor, Tensor]:
    gain = torch.rsqrt(state[f"{name}.bn.running_var"].double() + eps)
    if f"{name}.bn.weight" in state:
        gain = gain * state[f"{name}.bn.weight"].double()
    weight = state[f"{name}.conv3d.weight"].double() * gain[:, None, None, None, None]
    bias = state[f"{name}.bn.bias"].double() - state[f"{name}.bn.running_mean"].double() * gain
    return weight.float(), bias.float()


def build(state: Mapping[str, Tensor], *, device: str | torch.device = "cpu", precision: Precision = "float32") -> I3D:
    """Build a frozen network from weights in the PyTorch port's layout. The last layer stays float32."""
    network = I3D()
    network.load_state_dict(fold(state))
    network.stages.to(dtype=getattr(torch, precision))
    network = network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def load(*, device: str | torch.device = "cpu", precision: Precision = "float32") -> I3D:
    """Load the Kinetics-400 network; svgan.assets.cache fetches it if it is not in the cache."""
    from safetensors.torch import load_file

    return build(load_file(cache.path("i3d")), device=device, precision=precision)
