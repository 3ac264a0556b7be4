"""The augmentations under which a frame stays the same frame (systems.md 2.2): a cutout, then one of three changes.

What is done to each picture is drawn apart from doing it, for the global batch, so that a rank takes its slice.

Axes: n picture, S pixels of a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

CUT = (0.125, 0.25)  # of the side
SHIFT = 0.5  # of colours, of pictures in [-1, 1]
TURN, MOVE, SCALE = math.pi, 0.1, (0.95, 1.05)
MIRROR, COLOUR, AFFINE = range(3)  # the changes
ALL = 3  # in a channel's place


@dataclass(frozen=True)
class Augmentation:
    """Of n pictures. cut [n, 3]: side, top and left of the hole, as shares of the picture's side. change [n]: MIRROR,
    COLOUR or AFFINE. colour [n, 3]: what is added. affine [n, 2, 3]."""

    cut: Tensor
    change: Tensor
    colour: Tensor
    affine: Tensor

    def __getitem__(self, pictures: slice) -> Augmentation:
        return Augmentation(*(getattr(self, field.name)[pictures] for field in fields(self)))


def draw_augmentation(n: int, generator: torch.Generator) -> Augmentation:
    """For n pictures, on the generator's device. A colour's shift is of all channels alike or of one, by a fair choice
    among the four (the share is ours)."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator, device=generator.device)

    side, along, edge = uniform(*CUT), uniform(0, 1), uniform(0, 4).long()
    along, far = along * (1 - side), 1 - side
    top = torch.stack([torch.zeros_like(far), far, along, along]).gather(0, edge[None])[0]
    left = torch.stack([along, along, torch.zeros_like(far), far]).gather(0, edge[None])[0]
    change, channel = uniform(0, 3).long(), uniform(0, 4).long()
    shifted = (channel[:, None] == ALL) | (channel[:, None] == torch.arange(3, device=channel.device))
    colour = uniform(-SHIFT, SHIFT, 1) * ((change == COLOUR)[:, None] & shifted)
    angle, scale, moved = uniform(-TURN, TURN), uniform(*SCALE), 2 * uniform(-MOVE, MOVE, 2)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    affine = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)
    return Augmentation(torch.stack([side, top, left], 1), change, colour, torch.cat([affine, moved[..., None]], -1))


def augmented(pictures: Tensor, by: Augmentation) -> Tensor:
    """Pictures [n, 3, S, S], each with a grey hole at a border, and then mirrored, or of other colour, or turned by any
    angle, moved and scaled a little, its border reflected. Differentiable."""
    with_hole = pictures * ~holes(by.cut, pictures.shape[-1])[:, None]
    change = by.change[:, None, None, None]
    grid = F.affine_grid(by.affine.to(pictures), list(pictures.shape), align_corners=False)
    turned = F.grid_sample(with_hole, grid, padding_mode="reflection", align_corners=False)
    shifted = with_hole + by.colour.to(pictures)[:, :, None, None]
    return torch.where(change == MIRROR, with_hole.flip(-1), torch.where(change == AFFINE, turned, shifted))


def holes(cut: Tensor, side: int) -> Tensor:
    """True inside the hole: shares [n, 3] to [n, S, S]."""
    at = (torch.arange(side, device=cut.device) + 0.5) / side
    size, top, left = cut[:, :, None].unbind(1)
    rows, columns = ((at >= first) & (at <= first + size) for first in (top, left))
    return rows[:, :, None] & columns[:, None, :]
