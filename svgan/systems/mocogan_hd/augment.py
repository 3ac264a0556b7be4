"""Augmentations for the contrastive loss of MoCoGAN-HD: a cutout, then one of three changes.

Parameters are drawn apart from their application, for the global batch, so that each rank can take its slice. Source:
the released code, docs/papers.md#mocogan-hd-losses.

Axes: n picture, S pixels of a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

CUT = (0.125, 0.25)  # side of the hole, as a share of the picture's side
SHIFT = 0.5  # largest colour shift of pictures in [-1, 1]
TURN, MOVE, SCALE = math.pi, 0.1, (0.95, 1.05)
MIRROR, COLOUR, AFFINE = range(3)  # kinds of change
ALL = 3  # all channels, instead of a channel's number


@dataclass(frozen=True)
class Augmentation:
    """Augmentation parameters of n pictures.

    cut [n, 3]: side, top and left of the hole, as shares of the picture's side. change [n]: MIRROR, COLOUR or AFFINE.
    colour [n, 3]: the colour shift. affine [n, 2, 3]: the matrix of affine_grid.
    """

    cut: Tensor
    change: Tensor
    colour: Tensor
    affine: Tensor

    def __getitem__(self, pictures: slice) -> Augmentation:
        return Augmentation(*(getattr(self, field.name)[pictures] for field in fields(self)))


def draw_augmentation(n: int, generator: torch.Generator) -> Augmentation:
    """Draw parameters for n pictures, on the generator's device.

    A colour shift applies to all channels or to a single one; the four cases are equally likely (our choice).
    """

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
    """Augment pictures [n, 3, S, S]; differentiable.

    Each picture gets a grey hole at a border. Then it is mirrored, or its colour is shifted, or it is rotated by any
    angle, moved and scaled slightly, with a reflected border.
    """
    with_hole = pictures * ~holes(by.cut, pictures.shape[-1])[:, None]
    change = by.change[:, None, None, None]
    grid = F.affine_grid(by.affine.to(pictures), list(pictures.shape), align_corners=False)
    turned = F.grid_sample(with_hole, grid, padding_mode="reflection", align_corners=False)
    shifted = with_hole + by.colour.to(pictures)[:, :, None, None]
    return torch.where(change == MIRROR, with_hole.flip(-1), torch.where(change == AFFINE, turned, shifted))


def holes(cut: Tensor, side: int) -> Tensor:
    """Map shares [n, 3] to a mask [n, S, S] that is True inside the hole."""
    at = (torch.arange(side, device=cut.device) + 0.5) / side
    size, top, left = cut[:, :, None].unbind(1)
    rows, columns = ((at >= first) & (at <= first + size) for first in (top, left))
    return rows[:, :, None] & columns[:, None, :]
