"""Adaptive augmentation of clips (ADA, Karras et al. 2020): all frames of a clip are augmented alike.

Ours: of the pipeline "bgc" only mirroring, scale, rotation, shift, brightness, contrast and saturation, each with
probability p. Source: the released code, docs/papers.md#stylegan-v-training.

Axes: B clip, T frame, H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TARGET = 0.6  # for the mean sign of the discriminator's logits of real clips
FULL = 500_000  # clips over which p can go from 0 to 1
EVERY = 4  # steps between updates of p


@dataclass(frozen=True)
class Augmentation:
    """Augmentation parameters per clip. place [B, 2, 3]: matrix of affine_grid. colour [B, 3, 4]: affine map of RGB."""

    place: Tensor
    colour: Tensor

    def __getitem__(self, samples: slice) -> Augmentation:
        return Augmentation(self.place[samples], self.colour[samples])


def draw(count: int, p: float, generator: torch.Generator) -> Augmentation:
    return Augmentation(draw_place(count, p, generator), draw_colour(count, p, generator))


def augment(clips: Tensor, augmentation: Augmentation) -> Tensor:
    """Augment clips [B, T, 3, H, W], each alike in all its frames."""
    count, frames = clips.shape[:2]
    flat = clips.flatten(0, 1)
    place = augmentation.place.to(flat).repeat_interleave(frames, 0)
    grid = F.affine_grid(place, list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    colour = augmentation.colour.to(flat)
    painted = torch.einsum("bij,btjhw->btihw", colour[:, :, :3], moved.unflatten(0, (count, frames)))
    return painted + colour[:, None, :, 3, None, None]


def draw_place(count: int, p: float, generator: torch.Generator) -> Tensor:
    """Draw the matrices [B, 2, 3] of affine_grid that map each pixel to its source."""
    some = Some(count, p, generator)
    mirror = some.uniform(0.5, -1.0, 1.0)
    scale = 2 ** some.normal(0.2)
    angle = some.uniform(1.0, -math.pi, math.pi, otherwise=0.0)
    shift = torch.stack([some.normal(0.125), some.normal(0.125)], 1) * 2
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([torch.stack([cos * mirror, -sin], 1), torch.stack([sin * mirror, cos], 1)], 1)
    return torch.cat([rows, shift[:, :, None]], 2)


def draw_colour(count: int, p: float, generator: torch.Generator) -> Tensor:
    """Draw affine maps of RGB, [B, 3, 4]."""
    some = Some(count, p, generator)
    brightness, contrast, saturation = some.normal(0.2), 2 ** some.normal(0.5), 2 ** some.normal(1.0)
    grey = torch.full((3, 3), 1 / 3, device=generator.device)
    colours = torch.eye(3, device=generator.device) - grey
    matrix = contrast[:, None, None] * (grey + saturation[:, None, None] * colours)
    return torch.cat([matrix, (contrast * brightness)[:, None, None].expand(-1, 3, 1)], 2)


class Some:
    """Draw parameters that apply with probability p; the other samples stay unchanged."""

    def __init__(self, count: int, p: float, generator: torch.Generator):
        self.count, self.p, self.generator = count, p, generator

    def normal(self, spread: float) -> Tensor:
        drawn = torch.randn(self.count, generator=self.generator, device=self.generator.device) * spread
        return torch.where(self._counts(), drawn, 0.0)

    def uniform(self, share: float, low: float, high: float, otherwise: float = 1.0) -> Tensor:
        """Draw uniformly from low to high. With share below 1: `low` with that probability, else `high`."""
        u = torch.rand(self.count, generator=self.generator, device=self.generator.device)
        drawn = low + (high - low) * u if share == 1 else torch.where(u < share, low, high)
        return torch.where(self._counts(), drawn, otherwise)

    def _counts(self) -> Tensor:
        return torch.rand(self.count, generator=self.generator, device=self.generator.device) < self.p


def adapted(p: float, sign: float, clips: int, full: int = FULL) -> float:
    """Return p after `clips` more real clips whose logits had the mean sign `sign`.

    p rises above TARGET and falls below it. It takes `full` clips from 0 to 1.
    """
    step = clips / full * (1 if sign > TARGET else -1 if sign < TARGET else 0)
    return min(1.0, max(0.0, p + step))


class Adaptation(nn.Module):
    """The augmentation probability p, and the logits' mean signs since its last update. It updates every EVERY
    steps.
    """

    p: Tensor
    signs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("p", torch.zeros((), dtype=torch.float64))
        self.register_buffer("signs", torch.zeros(()))

    def follow(self, step: int, sign: Tensor, batch: int, full: int) -> None:
        """Update after step number `step`; sign: the mean sign of the logits of its real clips."""
        self.signs += sign
        if (step + 1) % EVERY == 0:
            self.p.fill_(adapted(float(self.p), float(self.signs) / EVERY, batch * EVERY, full))
            self.signs.zero_()
