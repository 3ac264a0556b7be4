"""Adaptive augmentation of clips (Karras et al. 2020, ADA): one draw for all frames of a clip (systems.md 3.4).

Ours: of "bgc" only mirroring, scale, rotation, shift, brightness, contrast and saturation, each with probability p.

Axes: B clip, T frame, H x W pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TARGET = 0.6  # of the mean sign of the discriminator's logits of real clips
FULL = 500_000  # clips over which p may go from 0 to 1


def augment(clips: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Clips [B, T, 3, H, W], each changed in one way in all its frames."""
    count, frames = clips.shape[:2]
    place, colour = draw_place(count, p, generator), draw_colour(count, p, generator)
    flat = clips.flatten(0, 1)
    place = place.to(flat).repeat_interleave(frames, 0)
    grid = F.affine_grid(place, list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    colour = colour.to(flat)
    painted = torch.einsum("bij,btjhw->btihw", colour[:, :, :3], moved.unflatten(0, (count, frames)))
    return painted + colour[:, None, :, 3, None, None]


def draw_place(count: int, p: float, generator: torch.Generator) -> Tensor:
    """Where each pixel is taken from: [B, 2, 3] of affine_grid."""
    some = Some(count, p, generator)
    mirror = some.uniform(0.5, -1.0, 1.0)
    scale = 2 ** some.normal(0.2)
    angle = some.uniform(1.0, -math.pi, math.pi, otherwise=0.0)
    shift = torch.stack([some.normal(0.125), some.normal(0.125)], 1) * 2
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([torch.stack([cos * mirror, -sin], 1), torch.stack([sin * mirror, cos], 1)], 1)
    return torch.cat([rows, shift[:, :, None]], 2)


def draw_colour(count: int, p: float, generator: torch.Generator) -> Tensor:
    """An affine map of RGB, [B, 3, 4]."""
    some = Some(count, p, generator)
    brightness, contrast, saturation = some.normal(0.2), 2 ** some.normal(0.5), 2 ** some.normal(1.0)
    grey = torch.full((3, 3), 1 / 3, device=generator.device)
    colours = torch.eye(3, device=generator.device) - grey
    matrix = contrast[:, None, None] * (grey + saturation[:, None, None] * colours)
    return torch.cat([matrix, (contrast * brightness)[:, None, None].expand(-1, 3, 1)], 2)


class Some:
    """Draws of which a share of p counts; the others change nothing."""

    def __init__(self, count: int, p: float, generator: torch.Generator):
        self.count, self.p, self.generator = count, p, generator

    def normal(self, spread: float) -> Tensor:
        drawn = torch.randn(self.count, generator=self.generator, device=self.generator.device) * spread
        return torch.where(self._counts(), drawn, 0.0)

    def uniform(self, share: float, low: float, high: float, otherwise: float = 1.0) -> Tensor:
        """Of a share below 1: `low` that often, where it counts."""
        u = torch.rand(self.count, generator=self.generator, device=self.generator.device)
        drawn = low + (high - low) * u if share == 1 else torch.where(u < share, low, high)
        return torch.where(self._counts(), drawn, otherwise)

    def _counts(self) -> Tensor:
        return torch.rand(self.count, generator=self.generator, device=self.generator.device) < self.p


def adapted(p: float, sign: float, clips: int) -> float:
    """p after `clips` more real clips whose logits' mean sign was `sign`: up above TARGET, down below it."""
    step = clips / FULL * (1 if sign > TARGET else -1 if sign < TARGET else 0)
    return min(1.0, max(0.0, p + step))
