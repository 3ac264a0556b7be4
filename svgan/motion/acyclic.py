"""StyleGAN-V's motion codes (systems.md 3.1): noise at anchors, convolutions over it, an acyclic encoding of time.

    z_k ~ N(0, I) at the anchors k, `distance` frames apart      u = two Conv1d over z, without padding
    e(tau) = [sin r, cos r],  r(tau) = 2 pi p tau / T + phi 1024 / T,  p = 1 + tanh(W_p u_l),  phi = W_phi u_l
    v(t) = e(t) - [(1 - alpha) e(t_l) + alpha e(t_r)] + [(1 - alpha) a_l + alpha a_r],  a = W_a u

with t_l and t_r the anchors about t and alpha its place between them. At an anchor v is its aligner a, so v is
continuous; periods change from one stretch between anchors to the next, so it never repeats. Any time can be asked
for, fractional too, without the times before it.

Ours: a clip has its first frame at a random time, in training and in sampling alike, as real clips begin anywhere in
their footage; anchors are numbered from the last one before that. All is float64, for an
angle is hundreds of radians: in float32 a clip in pieces would differ visibly from the whole, an hour in.

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

HORIZON = 1024  # frames: the longest period, and the time within which training sees motion (systems.md 3.1, 3.2)
RATE = 0.01  # learning-rate multiplier of the convolutions over anchors
LAYERS = 2


def check_distance(distance: int) -> None:
    """Raises UserError for anchors so far apart that no period is longer."""
    if distance > HORIZON:
        raise UserError(f"distance: anchors {distance} frames apart, but motion is within {HORIZON}; give less")


def check_anchors(distance: int, longest: int, uri: str) -> None:
    """Raises UserError for footage whose `longest` run of frames does not reach from an anchor to the next: it would
    never show what is between two."""
    if longest <= distance:
        raise UserError(
            f"distance: anchors are {distance} frames apart, but the longest run without a gap in {uri} has {longest}, "
            "fewer than from one anchor to the next; embed longer footage, or give a smaller distance and window"
        )


@dataclass(frozen=True)
class AnchorNoise:
    """Noise of `clips` clips, of which those in `part` are meant: z of any anchor is a function of (seed, anchor).

    begin float64 [clips]: when a clip's first frame is, in frames; content [clips, C], N(0, 1), of a clip as a whole.
    times float64 [T], or [B, T], on the CPU: the frames that are asked for, in frames since the first.
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
        """The same clips at other times."""
        return replace(self, times=times)

    def anchors(self, first: int, past: int, width: int) -> Tensor:
        """z [B, past - first, width], float64, of the anchors from `first` to before `past`."""
        shape, device = (len(self.begin), width), self.begin.device
        drawn = [
            torch.randn(shape, generator=rng.generator(device, self.seed, "anchor", k), device=device)[self.part]
            for k in range(first, past)
        ]
        return torch.stack(drawn, 1).double()


def draw_anchor_noise(
    clips: int, content: int, times: Tensor, generator: torch.Generator, latest: float = HORIZON
) -> AnchorNoise:
    """Noise of `clips` clips at these times, on the generator's device. They begin from 0 to `latest`, in frames."""
    device = generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device))
    begin = latest * torch.rand(clips, dtype=torch.float64, generator=generator, device=device)
    return AnchorNoise(seed, begin, torch.randn(clips, content, generator=generator, device=device), times, ALL)


def periods(shortest: float, longest: float, count: int) -> Tensor:
    """T [count] in frames, float64, geometrically spaced (the code's; its configuration's comment says linearly)."""
    return torch.logspace(math.log2(shortest), math.log2(longest), count, base=2, dtype=torch.float64)


def waves(times: Tensor, periods: Tensor, scale: Tensor, phase: Tensor) -> Tensor:
    """e [..., 2 F] = [sin r, cos r] at times [...]; scale p and phase phi [..., F], phi in radians."""
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
    """v [..., 2 F] at times [...] of the stretch from the anchor at the time `left` [...] to the one `distance` later;
    ends: their aligners a_l and a_r [..., 2 F]."""
    alpha = ((times - left) / distance)[..., None]
    e, e_left, e_right = (waves(t, periods, scale, phase) for t in (times, left, left + distance))
    return e - torch.lerp(e_left, e_right, alpha) + torch.lerp(*ends, alpha)


class AnchorConv(nn.Module):
    """Conv1d over anchors [B, C, A] without padding, at equalised learning rate, and a LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, rate: float = RATE):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel) / rate)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain, self.rate = rate / math.sqrt(inputs * kernel), rate

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv1d(x, self.weight.to(x.dtype) * self.gain, self.bias.to(x.dtype) * self.rate)
        return F.leaky_relu(y, SLOPE) * math.sqrt(2)


class AcyclicCodes(nn.Module):
    """Anchor noise to motion codes v [B, T, 2 F].

    noise: Z; width: U; frequencies: F; distance: frames between anchors, and the shortest period; kernel: anchors under
    a convolution. The paper's: 512, 512, 256, 16 (256 for slow footage), 11.
    """

    periods: Tensor

    def __init__(
        self, *, noise: int, width: int, frequencies: int, distance: int = 16, kernel: int = 11, horizon: int = HORIZON
    ):
        super().__init__()
        self.noise, self.distance, self.horizon = noise, distance, horizon
        self.convs = nn.Sequential(*(AnchorConv(width if k else noise, width, kernel) for k in range(LAYERS)))
        self.margin = LAYERS * (kernel - 1)  # anchors that the convolutions take off
        self.scale, self.phase = Unbiased(width, frequencies), Unbiased(width, frequencies)
        self.aligner = Unbiased(width, 2 * frequencies)
        self.register_buffer("periods", periods(distance, horizon, frequencies), persistent=False)

    @property
    def width(self) -> int:
        """2 F."""
        return len(self.aligner.weight)

    def forward(self, noise: AnchorNoise) -> Tensor:
        """v [B, T, 2 F] at noise.times, float64 whatever the autocast."""
        with torch.autocast(noise.begin.device.type, enabled=False):
            begin = noise.begin[noise.part][:, None]
            origin = begin - begin % self.distance  # each clip's anchor 0
            times = begin + noise.times.to(begin.device)
            place = ((times - origin) / self.distance).floor()
            first = int(noise.times.min() // self.distance)
            past = int(noise.times.max() // self.distance) + 3  # a clip begins up to an anchor late, and has two ends
            u = self.motion(noise.anchors(first, past + self.margin, self.noise))
            p, phi, a = 1 + self.scale(u).tanh(), self.phase(u), self.aligner(u)
            index = place.long() - first
            left, ends = origin + place * self.distance, (gathered(a, index), gathered(a, index + 1))
            return acyclic(times, left, self.distance, self.periods, gathered(p, index), gathered(phi, index), ends)

    def motion(self, z: Tensor) -> Tensor:
        """u [B, A - margin, U] of z [B, A, Z]."""
        return self.convs(z.transpose(1, 2)).transpose(1, 2)


class Unbiased(nn.Module):
    """A linear map at equalised learning rate and without bias, on purpose: with one, motion could do without its
    noise (systems.md 3.1)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight, self.gain = nn.Parameter(torch.randn(outputs, inputs)), 1 / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype) * self.gain)


def gathered(values: Tensor, index: Tensor) -> Tensor:
    """values [B, A, C] at index [B, T] as [B, T, C]."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))
