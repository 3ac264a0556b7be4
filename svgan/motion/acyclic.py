"""StyleGAN-V's motion codes: noise at anchors, convolutions over it, and an acyclic encoding of time.

    z_k ~ N(0, I) at the anchors k, `distance` frames apart      u = two Conv1d over z, without padding
    e(tau) = [sin r, cos r],  r(tau) = 2 pi p tau / T + phi 1024 / T,  p = 1 + tanh(W_p u_l),  phi = W_phi u_l
    v(t) = e(t) - [(1 - alpha) e(t_l) + alpha e(t_r)] + [(1 - alpha) a_l + alpha a_r],  a = W_a u

t_l and t_r are the anchors on either side of t, and alpha is the position of t between them. At an anchor, v is its
aligner a, so v is continuous. Periods change from one interval between anchors to the next, so v never repeats. v can
be computed at any time, fractional times included, without computing earlier times. Source: StyleGAN-V's released code,
docs/papers.md#stylegan-v-generator.

Our choices: the first frame of a clip is at a random time, in training and in sampling, because real clips begin
anywhere in their footage. Anchors are numbered from the last one before that time. All computation is in float64:
angles are hundreds of radians, and in float32 a clip computed in chunks would visibly differ from the whole after an
hour.

Axes: B clip, T frame, A anchor, Z noise, U width of u, F frequency; v is 2 F wide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.errors import UserError
from svgan.motion.noise import ALL
from svgan.torch_utils import rng
from svgan.torch_utils.layers import SLOPE

HORIZON = 1024  # frames: the longest period, and the length of the windows that training sees (released code)
RATE = 0.01  # learning-rate multiplier of the convolutions over anchors
LAYERS = 2


def check_distance(distance: int) -> None:
    """Raise UserError if the distance between anchors exceeds the longest period."""
    if distance > HORIZON:
        raise UserError(f"distance: anchors {distance} frames apart, but the longest period is {HORIZON}; give less")


def check_anchors(distance: int, longest: int, uri: str) -> None:
    """Raise UserError if the footage's longest run of frames does not reach from one anchor to the next.

    Such footage would never show what happens between two anchors.
    """
    if longest <= distance:
        raise UserError(
            f"distance: anchors are {distance} frames apart, but the longest run without a gap in {uri} has {longest}, "
            "fewer than from one anchor to the next; embed longer footage, or give a smaller distance and window"
        )


@dataclass(frozen=True)
class AnchorNoise:
    """Noise of `clips` clips, restricted to those in `part`. The noise z of an anchor is a function of (seed, anchor).

    begin float64 [clips]: time of each clip's first frame, in frames. content [clips, C]: N(0, 1), one vector per clip.
    times float64 [T] or [B, T], on the CPU: the requested frames, in frames since the first.
    """

    seed: int
    begin: Tensor
    content: Tensor
    times: Tensor
    part: slice

    def __getitem__(self, samples: slice) -> AnchorNoise:
        chosen = range(len(self.begin))[self.part][samples]
        return replace(self, part=slice(chosen.start, chosen.stop, chosen.step))

    def at(self, times: Tensor) -> AnchorNoise:
        """Return the noise of the same clips at other times."""
        return replace(self, times=times)

    def anchors(self, first: int, past: int, width: int) -> Tensor:
        """Return z [B, past - first, width], float64, of the anchors from `first` to `past`, `past` excluded."""
        shape, device = (len(self.begin), width), self.begin.device
        drawn = [
            torch.randn(shape, generator=rng.generator(device, self.seed, "anchor", k), device=device)[self.part]
            for k in range(first, past)
        ]
        return torch.stack(drawn, 1).double()


def draw_anchor_noise(
    clips: int, content: int, times: Tensor, generator: torch.Generator, latest: float = HORIZON
) -> AnchorNoise:
    """Draw noise of `clips` clips at these times, on the generator's device.

    Clips begin between 0 and `latest`, in frames.
    """
    device = generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device))
    begin = latest * torch.rand(clips, dtype=torch.float64, generator=generator, device=device)
    return AnchorNoise(seed, begin, torch.randn(clips, content, generator=generator, device=device), times, ALL)


def periods(shortest: float, longest: float, count: int) -> Tensor:
    """T [count] in frames, float64, geometrically spaced as in the released code (its configuration says linearly)."""
    return torch.logspace(math.log2(shortest), math.log2(longest), count, base=2, dtype=torch.float64)


def waves(times: Tensor, periods: Tensor, scale: Tensor, phase: Tensor) -> Tensor:
    """e [..., 2 F] = [sin r, cos r] at times [...]. scale: p [..., F]; phase: phi [..., F] in radians."""
    r = 2 * math.pi * scale * (times[..., None] / periods) + phase * (periods[-1] / periods)
    return torch.cat([r.sin(), r.cos()], -1)


def acyclic(
    times: Tensor,
    left: Tensor,
    distance: float,
    periods: Tensor,
    scale: Tensor,
    phase: Tensor,
    ends: tuple[Tensor, Tensor],
) -> Tensor:
    """v [..., 2 F] at times [...] between the anchor at time `left` [...] and the anchor `distance` later.

    ends: the aligners a_l and a_r [..., 2 F] of the two anchors.
    """
    alpha = ((times - left) / distance)[..., None]
    e, e_left, e_right = (waves(t, periods, scale, phase) for t in (times, left, left + distance))
    return e - torch.lerp(e_left, e_right, alpha) + torch.lerp(*ends, alpha)


class AnchorConv(nn.Module):
    """Conv1d over anchors [B, C, A] without padding and with equalised learning rate, followed by a LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, rate: float = RATE):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel) / rate)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain, self.rate = rate / math.sqrt(inputs * kernel), rate

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv1d(x, self.weight.to(x.dtype) * self.gain, self.bias.to(x.dtype) * self.rate)
        return F.leaky_relu(y, SLOPE) * math.sqrt(2)


class AcyclicCodes(nn.Module):
    """Map anchor noise to motion codes v [B, T, 2 F].

    noise: Z. width: U. frequencies: F. distance: frames between anchors, and the shortest period. kernel: anchors per
    convolution. The paper's values: 512, 512, 256, 16 (256 for slow footage) and 11.
    """

    periods: Tensor

    def __init__(
        self, *, noise: int, width: int, frequencies: int, distance: int = 16, kernel: int = 11, horizon: int = HORIZON
    ):
        super().__init__()
        self.noise, self.distance, self.horizon = noise, distance, horizon
        self.convs = nn.Sequential(*(AnchorConv(width if k else noise, width, kernel) for k in range(LAYERS)))
        self.margin = LAYERS * (kernel - 1)  # anchors that the unpadded convolutions consume
        self.scale, self.phase = Unbiased(width, frequencies), Unbiased(width, frequencies)
        self.aligner = Unbiased(width, 2 * frequencies)
        self.register_buffer("periods", periods(distance, horizon, frequencies), persistent=False)

    @property
    def width(self) -> int:
        """2 F."""
        return len(self.aligner.weight)

    def forward(self, noise: AnchorNoise) -> Tensor:
        """v [B, T, 2 F] at noise.times, in float64 even under autocast."""
        with torch.autocast(noise.begin.device.type, enabled=False):
            begin = noise.begin[noise.part][:, None]
            origin = begin - begin % self.distance  # each clip's anchor 0
            times = begin + noise.times.to(begin.device)
            place = ((times - origin) / self.distance).floor()
            first = int(noise.times.min() // self.distance)
            past = int(noise.times.max() // self.distance) + 3  # begin is up to one interval late; two ends
            u = self.motion(noise.anchors(first, past + self.margin, self.noise))
            p, phi, a = 1 + self.scale(u).tanh(), self.phase(u), self.aligner(u)
            index = place.long() - first
            left, ends = origin + place * self.distance, (gathered(a, index), gathered(a, index + 1))
            return acyclic(times, left, self.distance, self.periods, gathered(p, index), gathered(phi, index), ends)

    def motion(self, z: Tensor) -> Tensor:
        """Map z [B, A, Z] to u [B, A - margin, U]."""
        return self.convs(z.transpose(1, 2)).transpose(1, 2)


class Unbiased(nn.Module):
    """A linear map with equalised learning rate and without bias.

    With a bias, motion could ignore its noise (motion collapse: docs/papers.md#stylegan-v-generator).
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight, self.gain = nn.Parameter(torch.randn(outputs, inputs)), 1 / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype) * self.gain)


def gathered(values: Tensor, index: Tensor) -> Tensor:
    """Gather values [B, A, C] at index [B, T] as [B, T, C]."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))
