"""StyleGAN-V's generator and holistic discriminator, made of the layers of svgan's StyleGAN2.

Source: the released code, docs/papers.md#stylegan-v-generator and #stylegan-v-discriminator.

Axes: B clip, T frame, C channel, H x W pixels, D width of W.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.errors import UserError
from svgan.images.domain import render_batches
from svgan.images.stylegan2 import EqualConv, EqualLinear, Generator, ResidualBlock, StyleGAN2Config, minibatch_std
from svgan.motion.acyclic import HORIZON, AcyclicCodes, AnchorNoise, draw_anchor_noise
from svgan.motion.base import ContinuousMotion, RenderedMotion
from svgan.motion.noise import ALL
from svgan.torch_utils.layers import SLOPE, pixel_norm

GROUP = 4  # clips per minibatch standard deviation, neighbours in the batch: independent of the number of workers
RATE = 0.01  # learning-rate multiplier of mappings
EMBEDDED = 256  # width of a learned time difference


class VideoGenerator(ContinuousMotion, RenderedMotion):
    """Map noise of clips to pictures [B, T, 3, R, R].

    The code w, one per clip, styles all layers; v(t) is concatenated with the constant input. A frame's code is w and
    v(t) side by side, K = D + 2 F wide. There are no noise maps. config.mapping_layers is 2 in the paper. For the
    widths of motion see AcyclicCodes.
    """

    def __init__(self, config: StyleGAN2Config, motion: AcyclicCodes):
        super().__init__()
        self.motion, self.synthesis = motion, Generator(config, extra=motion.width)

    def forward(self, noise: AnchorNoise) -> Tensor:
        """Render the frames at noise.times (or per-clip times, [B, T]); noise.content is z [clips, D]."""
        codes = self.codes(noise)
        return self.pictures(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])

    def codes(self, noise: AnchorNoise) -> Tensor:
        """Compute the codes [B, T, K]."""
        w = self.synthesis.map(noise.content[noise.part].to(self.synthesis.const.dtype))
        v = self.motion(noise).to(w.dtype)
        return torch.cat([w[:, None].expand(-1, v.shape[1], -1), v], 2)

    def pictures(self, codes: Tensor) -> Tensor:
        """Render codes [N, K] as pictures [N, 3, R, R]."""
        w, v = codes.split([self.synthesis.config.w_dim, self.motion.width], 1)
        return self.synthesis(self.synthesis.broadcast(w), "none", v)

    def truncated(self, codes: Tensor, truncation: float) -> Tensor:
        """Move w towards its mean; motion is unchanged."""
        if truncation == 1:
            return codes
        mean, width = self.synthesis.w_avg, self.synthesis.config.w_dim
        return torch.cat([mean + truncation * (codes[..., :width] - mean), codes[..., width:]], -1)

    def render(self, codes: Tensor | np.ndarray) -> np.ndarray:
        """Render codes [N, K] as pictures uint8 [N, R, R, 3]."""
        return render_batches(self.pictures, codes, self.synthesis.config.resolution, self.synthesis.w_avg.device)

    def draw(self, batch: int, length: int, generator: torch.Generator) -> AnchorNoise:
        """Draw noise for clips of `length` frames, on the generator's device."""
        return self.draw_at(batch, torch.arange(length), generator)

    def draw_at(self, batch: int, times: Tensor, generator: torch.Generator) -> AnchorNoise:
        """Draw noise for clips of frames at these times, [T] or [B, T]."""
        return draw_anchor_noise(batch, self.synthesis.config.w_dim, times.double(), generator)

    def stream(
        self,
        batch: int,
        length: int,
        generator: torch.Generator,
        chunk: int = 64,
        part: slice = ALL,
        *,
        start: float = 0.0,
        step: float = 1.0,
    ) -> Iterator[Tensor]:
        """Yield codes in chunks [B, <= chunk, K] of the frames at start, start + step, ..."""
        noise = self.draw(batch, length, generator)[part]
        for times in (start + step * noise.times).split(chunk):
            yield self.codes(noise.at(times))


class HolisticDiscriminator(nn.Module):
    """Map clips [B, T, 3, R, R] of T sparse frames and their times [B, T] to logits [B].

    Each frame is processed alone down to `joined` pixels (16 in the paper). There a block halves the channels, and all
    frames' maps are concatenated and processed together. The logit is <features, code of the time differences> /
    sqrt(C). For a single frame this is the discriminator of pictures in svgan.images.stylegan2.
    """

    def __init__(self, config: StyleGAN2Config, frames: int = 3, joined: int = 16):
        super().__init__()
        if frames < 1 or joined not in config.channels or not 4 <= joined < config.resolution:
            raise UserError(
                f"joined: {frames} frames of {config.resolution} px cannot be joined at {joined}; give 1 frame "
                "or more, and 4, 8, 16, ... below the resolution"
            )
        sides, share = sorted(config.channels, reverse=True), 2 if frames > 1 else 1
        given = {r: config.channels[r] // share if r == joined else config.channels[r] for r in sides}
        taken = given | {joined: given[joined] * frames}
        blocks = {b: ResidualBlock(taken[a], given[b]) for a, b in itertools.pairwise(sides)}
        last, self.joined = config.channels[4] if joined != 4 else taken[4], joined
        self.from_rgb = EqualConv(3, given[sides[0]], 1)
        self.alone = nn.Sequential(*(block for side, block in blocks.items() if side >= joined))
        self.together = nn.Sequential(*(block for side, block in blocks.items() if side < joined))
        self.conv = EqualConv(last + 1, last, 3)
        self.fc, self.out = EqualLinear(last * 16, last), EqualLinear(last, last if frames > 1 else 1)
        self.differences = TimeDifferences(frames - 1, last) if frames > 1 else None

    def forward(self, clips: Tensor, times: Tensor) -> Tensor:
        features = self.features(clips)
        if self.differences is None:
            return features.squeeze(1)
        return project(features, self.differences(times.diff(dim=1)).to(features.dtype))

    def features(self, clips: Tensor) -> Tensor:
        """Compute features [B, C] of the frames in their order; for a single frame the logit, [B, 1]."""
        frames = clips.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = self.alone(leaky(self.from_rgb(frames)))
        x = self.together(x.unflatten(0, clips.shape[:2]).flatten(1, 2))
        deviation = torch.cat([minibatch_std(group, GROUP) for group in x.split(GROUP)])
        x = leaky(self.conv(torch.cat([x, deviation], 1)))
        return self.out(leaky(self.fc(x.flatten(1))))


class TimeDifferences(nn.Module):
    """Map time differences [B, count] of neighbouring frames to a code [B, width].

    Each difference is represented by a learned vector of its rounded value, and by its sines and cosines at log-spaced
    frequencies.
    """

    frequencies: Tensor

    def __init__(self, count: int, width: int, horizon: int = HORIZON):
        super().__init__()
        self.known = nn.Parameter(torch.randn(horizon, EMBEDDED))
        octaves = math.ceil(math.log2(horizon))
        self.register_buffer("frequencies", math.pi / horizon * 2.0 ** torch.arange(octaves), persistent=False)
        inputs = count * (EMBEDDED + 2 * octaves)
        self.layers = nn.ModuleList([EqualLinear(inputs, width, lr=RATE), EqualLinear(width, width, lr=RATE)])

    def forward(self, differences: Tensor) -> Tensor:
        index = differences.round().long().clamp(0, len(self.known) - 1)
        angles = differences.to(self.known.dtype)[..., None] * self.frequencies
        x = pixel_norm(torch.cat([self.known[index], angles.sin(), angles.cos()], -1).flatten(1))
        for layer in self.layers:
            x = leaky(layer(x))
        return x


def project(features: Tensor, code: Tensor) -> Tensor:
    """<features, code> / sqrt(C), [B, C] to [B] (Miyato and Koyama 2018, without the unconditional term)."""
    return (features * code).sum(1) / math.sqrt(code.shape[1])


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE) * math.sqrt(2)
