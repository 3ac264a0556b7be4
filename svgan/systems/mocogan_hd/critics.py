"""The critics of rendered frames: PatchGANs of clips and frame pairs, and a critic of single frames with an embedding.

Source: the released code, docs/papers.md#mocogan-hd-discriminators.

Axes: B clip or picture, C channels, T frame, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from svgan.torch_utils.layers import SLOPE

SCALES = 2
KERNEL, PAD = 4, 2
SHORT = 16  # clips of up to so many frames keep all of them at the second scale
STD = 0.02  # standard deviation of a convolution's initial weights


def video_input(clips: Tensor, pairs: bool) -> Tensor:
    """Arrange clips [B, T, 3, H, W] for the clip critic as [B, 3, T, H, W].

    With `pairs`, the first frame is concatenated to each later one on the channel axis: [B, 6, T - 1, H, W].
    """
    frames = clips.transpose(1, 2)
    return torch.cat([frames[:, :, :1].expand_as(frames[:, :, 1:]), frames[:, :, 1:]], 1) if pairs else frames


def frames_at(clips: Tensor, at: Tensor) -> Tensor:
    """Select frame at[b] of each clip: [B, T, 3, H, W] to [B, 3, H, W]."""
    return clips[torch.arange(len(clips), device=clips.device), at]


class PatchCritic(nn.Module):
    """PatchGAN of two scales for clips (dims 3) or pictures (dims 2): a score map [B, 1, ...] for each scale.

    widths: channels of all convolutions but the last; of these all but the last have stride 2. Samples are not mixed:
    all convolutions but the first and the last have instance norm without affine parameters.
    """

    def __init__(self, dims: int, channels: int, widths: Sequence[int]):
        super().__init__()
        self.dims = dims
        self.scales = nn.ModuleList(self._scale(channels, widths) for _ in range(SCALES))

    def forward(self, x: Tensor) -> list[Tensor]:
        scores = []
        for scale in self.scales:
            scores.append(scale(x))
            x = self.coarser(x)
        return scores

    def coarser(self, x: Tensor) -> Tensor:
        """Halve height and width, and the number of frames if there are more than 16."""
        if self.dims == 2:
            return F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        stride = (1 if x.shape[2] <= SHORT else 2, 2, 2)
        return F.avg_pool3d(x, 3, stride, 1, count_include_pad=False)

    def _scale(self, channels: int, widths: Sequence[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(pairwise([channels, *widths])):
            normed = number > 0
            layers.append(self._convolution(inputs, outputs, 2 if number < len(widths) - 1 else 1, bias=not normed))
            if normed:
                layers.append(nn.InstanceNorm3d(outputs) if self.dims == 3 else nn.InstanceNorm2d(outputs))
            layers.append(nn.LeakyReLU(SLOPE))
        return nn.Sequential(*layers, self._convolution(widths[-1], 1, 1))

    def _convolution(self, inputs: int, outputs: int, stride: int, bias: bool = True) -> nn.Module:
        """Make a convolution. bias: False before a norm, which would remove it."""
        kind = nn.Conv3d if self.dims == 3 else nn.Conv2d
        made = kind(inputs, outputs, KERNEL, stride, PAD, bias=bias)
        nn.init.normal_(made.weight, std=STD)
        return made


class EmbeddingCritic(nn.Module):
    """BigGAN's discriminator of single frames with a second head F, whose unit vectors enter the contrastive loss.

    widths: channels of the residual blocks; all but the last block halve the resolution. embedding: width of F's three
    linear layers. All layers have spectral norm.
    """

    def __init__(self, widths: Sequence[int], embedding: int):
        super().__init__()
        sizes = list(pairwise([3, *widths]))
        self.blocks = nn.ModuleList(
            Block(inputs, outputs, first=number == 0, down=number < len(sizes) - 1)
            for number, (inputs, outputs) in enumerate(sizes)
        )
        self.score = spectral(nn.Linear(widths[-1], 1))
        self.head = nn.Sequential(
            spectral(nn.Linear(widths[-1], embedding)),
            nn.ReLU(),
            spectral(nn.Linear(embedding, embedding)),
            nn.ReLU(),
            spectral(nn.Linear(embedding, embedding)),
        )

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Map pictures [B, 3, H, W] to scores [B] and embeddings [B, E] of length 1."""
        x = pictures
        for block in self.blocks:
            x = block(x)
        summed = F.relu(x).sum((2, 3))
        return self.score(summed).squeeze(1), F.normalize(self.head(summed), dim=1)


class Block(nn.Module):
    """A residual block of BigGAN's discriminator. The first block has no ReLU at its input, since it reads pictures."""

    def __init__(self, inputs: int, outputs: int, *, first: bool, down: bool):
        super().__init__()
        self.first, self.down = first, down
        self.conv0 = spectral(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.conv1 = spectral(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = spectral(nn.Conv2d(inputs, outputs, 1)) if down or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.conv0(x if self.first else F.relu(x))))
        passed = x if self.skip is None else self.skip(x)
        return F.avg_pool2d(y + passed, 2) if self.down else y + passed


def spectral(layer: nn.Module) -> nn.Module:
    """Initialise `layer` orthogonally and add spectral norm (Miyato et al. 2018)."""
    assert isinstance(layer.weight, Tensor)
    assert isinstance(layer.bias, Tensor)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return spectral_norm(layer)


class KeyQueue(nn.Module):
    """A queue of the last `size` embeddings [size, E], initially random unit vectors."""

    keys: Tensor
    place: Tensor

    def __init__(self, size: int, embedding: int):
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, embedding), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replace the oldest keys by keys [n, E]; if n exceeds `size`, by the last of them."""
        size = len(self.keys)
        kept = keys[-size:]
        at = (self.place + len(keys) - len(kept) + torch.arange(len(kept), device=self.place.device)) % size
        self.keys[at] = kept.to(self.keys)
        self.place.copy_((self.place + len(keys)) % size)


@torch.no_grad()
def follow_slowly(slow: nn.Module, fast: nn.Module, decay: float) -> None:
    """Move MoCo's momentum encoder: slow = decay slow + (1 - decay) fast (He et al. 2020); copy buffers."""
    for mine, theirs in zip(slow.parameters(), fast.parameters(), strict=True):
        mine.lerp_(theirs, 1 - decay)
    for kept, new in zip(slow.buffers(), fast.buffers(), strict=True):
        kept.copy_(new)
