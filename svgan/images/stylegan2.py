"""StyleGAN2 (Karras et al. 2020) in plain PyTorch operations: the same code on CPU and GPU, nothing compiled.

Layers are laid out as in the official network, so that its checkpoints and rosinality's map onto it name by name:
mapping; synthesis with a learned constant, modulated convolutions, skip connections to RGB; residual discriminator. A
picture of R pixels has L = 2 log2(R) - 2 W+ layers.

Two exact rewrites make it fast without custom kernels. Modulation scales the activations instead of the weights: conv(w
* s, x) = conv(w, s * x). The [1, 3, 3, 1] blur of a resampling convolution is folded into its weight, a 6x6 kernel,
because convolution is associative. Tests compare both with the plain form.

Axes: B picture, L W+ layer, D width of W, C channels, H x W pixels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.errors import UserError
from svgan.torch_utils.layers import SLOPE

NoiseMode = Literal["none", "const", "random"]
BLUR = (1.0, 3.0, 3.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Config:
    """Sizes of a generator and discriminator.

    channels maps a resolution (4, 8, ... resolution) to its width. w_dim is both Z's and W's width. clamp: the bound of
    layers' outputs, 256 in NVIDIA's networks trained in float16; None: no bound.
    """

    resolution: int = 64
    w_dim: int = 64
    mapping_layers: int = 4
    channels: dict[int, int] = field(default_factory=lambda: {4: 160, 8: 160, 16: 128, 32: 96, 64: 48})
    mapping_lr: float = 0.01
    clamp: float | None = None

    def __post_init__(self) -> None:
        expected = [2**k for k in range(2, int(math.log2(max(self.resolution, 4))) + 1)]
        object.__setattr__(self, "channels", {int(k): int(v) for k, v in self.channels.items()})
        if expected[-1] != self.resolution or sorted(self.channels) != expected:
            raise UserError(
                f"channels: needs a width for each of {expected} at resolution {self.resolution}, "
                f"got {sorted(self.channels)}"
            )

    @property
    def resolutions(self) -> list[int]:
        return sorted(self.channels)

    @property
    def num_layers(self) -> int:
        """L, the number of W+ layers."""
        return 2 * len(self.channels)

    def to_json(self) -> dict:
        return {**asdict(self), "channels": {str(k): v for k, v in self.channels.items()}}


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE) * math.sqrt(2)


def _clamped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate: the stored weight is N(0, 1) / lr."""

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, lr: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr))
        self.gain, self.lr = lr / math.sqrt(inputs), lr

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.gain, self.bias * self.lr)


def blur_kernel(gain: float = 1.0, *, like: Tensor) -> Tensor:
    """The normalised 4x4 binomial kernel times gain, on the device and in the type of `like`."""
    k = torch.tensor(BLUR, device=like.device, dtype=like.dtype)
    k = torch.outer(k, k)
    return k * (gain / k.sum())


def _blur(x: Tensor, gain: float, padding: int) -> Tensor:
    """Filter every channel of [B, C, H, W] by the 4x4 kernel; a side grows by 2 padding - 3."""
    kernel = blur_kernel(gain, like=x).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])


def upsample2(x: Tensor) -> Tensor:
    """Double the size of [B, C, H, W] with the binomial filter."""
    channels = x.shape[1]
    kernel = blur_kernel(4.0, like=x).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled per picture by a style, and demodulated (section 2.2)."""

    def __init__(self, inputs: int, outputs: int, size: int, w_dim: int, *, up: bool = False, demodulate: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.affine = EqualLinear(w_dim, inputs, bias=1.0)
        self.gain, self.up, self.demodulate = 1 / math.sqrt(inputs * size * size), up, demodulate

    def forward(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """The convolution, and the factor [B, C, 1, 1] that still has to demodulate it."""
        style = self.affine(w)
        weight = self.weight * self.gain
        y = x * style.to(x.dtype)[:, :, None, None]
        if self.up:
            y = _blur(F.conv_transpose2d(y, weight.transpose(0, 1), stride=2), 4.0, 1)
        else:
            y = F.conv2d(y, weight, padding=weight.shape[-1] // 2)
        if not self.demodulate:
            return y, None
        energy = weight.square().sum((2, 3)).float() @ style.float().square().T  # [out, B]
        return y, torch.rsqrt(energy.T + 1e-8)[:, :, None, None]


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, resolution: int, config: StyleGAN2Config, *, up: bool):
        super().__init__()
        self.conv, self.clamp = ModulatedConv(inputs, outputs, 3, config.w_dim, up=up), config.clamp
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.noise: Tensor
        self.register_buffer("noise", torch.randn(resolution, resolution))

    def forward(self, x: Tensor, w: Tensor, noise: NoiseMode) -> Tensor:
        y, scale = self.conv(x, w)
        assert scale is not None
        # leaky(g x) = g leaky(x) for g > 0, so that the gain costs nothing beside scale and bias.
        bias, scale = math.sqrt(2) * self.bias[:, None, None], math.sqrt(2) * scale
        y = torch.addcmul(bias.to(y.dtype)[None], y, scale.to(y.dtype))
        if noise != "none":
            drawn = self.noise if noise == "const" else torch.randn_like(y[:, :1])
            y += (drawn * (math.sqrt(2) * self.noise_strength)).to(y.dtype)
        return _clamped(F.leaky_relu_(y, SLOPE), self.clamp)


class ToRGB(nn.Module):
    def __init__(self, inputs: int, config: StyleGAN2Config):
        super().__init__()
        self.conv, self.clamp = ModulatedConv(inputs, 3, 1, config.w_dim, demodulate=False), config.clamp
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return _clamped(self.conv(x, w)[0] + self.bias.to(x.dtype)[:, None, None], self.clamp)


class Generator(nn.Module):
    """Z -> W -> W+ -> pictures in [-1, 1] (not clipped). `w_avg` [D] is the centre for truncation.

    extra: channels that are concatenated to the constant, given with the codes (StyleGAN-V's motion codes).
    """

    def __init__(self, config: StyleGAN2Config, extra: int = 0):
        super().__init__()
        self.config, self.extra = config, extra
        d = config.w_dim
        self.mapping = nn.ModuleList(EqualLinear(d, d, lr=config.mapping_lr) for _ in range(config.mapping_layers))
        self.w_avg: Tensor
        self.register_buffer("w_avg", torch.zeros(d))
        widths = [config.channels[r] for r in config.resolutions]
        self.const = nn.Parameter(torch.randn(widths[0], 4, 4))
        convs, rgbs = [StyledConv(widths[0] + extra, widths[0], 4, config, up=False)], [ToRGB(widths[0], config)]
        for before, after, res in zip(widths, widths[1:], config.resolutions[1:], strict=False):
            convs += [StyledConv(before, after, res, config, up=True), StyledConv(after, after, res, config, up=False)]
            rgbs.append(ToRGB(after, config))
        self.convs, self.rgbs = nn.ModuleList(convs), nn.ModuleList(rgbs)

    def map(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Noise z [B, D] to w [B, D]; w_avg + truncation (w - w_avg)."""
        w = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for layer in self.mapping:
            w = _leaky(layer(w))
        return self.w_avg + truncation * (w - self.w_avg) if truncation != 1 else w

    @torch.no_grad()
    def average_code(self, count: int = 10_000) -> Tensor:
        """The mean w [D] of `count` random subjects, the same ones each time, for `w_avg`."""
        z = torch.randn(count, self.config.w_dim, generator=torch.Generator().manual_seed(0))
        return self.map(z.to(self.w_avg)).mean(0)

    def broadcast(self, w: Tensor) -> Tensor:
        """W [B, D] as W+ [B, L, D]."""
        return w[:, None].expand(-1, self.config.num_layers, -1)

    def forward(self, codes: Tensor, noise: NoiseMode = "const", extra: Tensor | None = None) -> Tensor:
        """W+ codes [B, L, D], and extra channels [B, extra], to pictures [B, 3, R, R]."""
        if codes.shape[1:] != (self.config.num_layers, self.config.w_dim):
            raise UserError(
                f"codes of shape {tuple(codes.shape[1:])} for a generator of "
                f"{(self.config.num_layers, self.config.w_dim)}: they belong to another domain"
            )
        w = codes.unbind(1)
        x = self.const[None].expand(len(codes), -1, -1, -1)
        if extra is not None:
            x = torch.cat([x, extra.to(x.dtype)[:, :, None, None].expand(-1, -1, 4, 4)], 1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.convs[0](x, w[0], noise)
        rgb = self.rgbs[0](x, w[1])
        for k, to_rgb in enumerate(self.rgbs[1:]):
            x = self.convs[2 * k + 1](x, w[2 * k + 1], noise)
            x = self.convs[2 * k + 2](x, w[2 * k + 2], noise)
            rgb = upsample2(rgb) + to_rgb(x, w[2 * k + 3])
        return rgb


class EqualConv(nn.Module):
    """Convolution with equalised learning rate; `down` halves the size after a blur."""

    def __init__(self, inputs: int, outputs: int, size: int, *, down: bool = False, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain, self.down = 1 / math.sqrt(inputs * size * size), down

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.gain
        if not self.down:
            return F.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)
        if weight.shape[-1] == 1:  # blur, then a strided 1x1
            channels = x.shape[1]
            kernel = blur_kernel(like=x).expand(channels, 1, 4, 4)
            return F.conv2d(F.conv2d(x, kernel, stride=2, padding=1, groups=channels), weight, self.bias)
        return F.conv2d(_blur(x, 1.0, 2), weight, self.bias, stride=2)


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv0 = EqualConv(inputs, inputs, 3)
        self.conv1 = EqualConv(inputs, outputs, 3, down=True)
        self.skip = EqualConv(inputs, outputs, 1, down=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = _leaky(self.conv1(_leaky(self.conv0(x))))
        return (y + self.skip(x)) / math.sqrt(2)


class Discriminator(nn.Module):
    """Pictures [B, 3, R, R] to logits [B]; residual, with minibatch standard deviation."""

    def __init__(self, config: StyleGAN2Config, group: int = 4):
        super().__init__()
        widths = [config.channels[r] for r in reversed(config.resolutions)]
        self.from_rgb = EqualConv(3, widths[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in itertools.pairwise(widths))
        self.group = group
        self.conv = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.fc = EqualLinear(widths[-1] * 16, widths[-1])
        self.out = EqualLinear(widths[-1], 1)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Activations after every block, finest first."""
        x = _leaky(self.from_rgb(pictures))
        kept = []
        for block in self.blocks:
            x = block(x)
            kept.append(x)
        return kept

    def head(self, x: Tensor) -> Tensor:
        """Logits [B] from the last block's activations [B, C, 4, 4]."""
        x = torch.cat([x, minibatch_std(x, self.group)], 1)
        x = _leaky(self.conv(x))
        return self.out(_leaky(self.fc(x.flatten(1)))).squeeze(1)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.features(pictures)[-1])


def minibatch_std(x: Tensor, group: int) -> Tensor:
    """One map [B, 1, H, W]: the mean standard deviation within groups of pictures (Karras et al. 2018)."""
    b, c, h, w = x.shape
    group = min(group, b) if b % min(group, b) == 0 else b
    y = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(group, b // group, c, h, w)
    y = (y.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    return y.repeat(group)[:, None, None, None].expand(b, 1, h, w).to(x.dtype)
