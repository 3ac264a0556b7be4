"""Aligned crops as pictures: averaged to a smaller size, and split into rows to train on and held-out rows."""

from __future__ import annotations

import numpy as np

from svgan.errors import UserError
from svgan.faces.aligned_video import AlignedVideo
from svgan.faces.tracking import Track

HOLD_OUT = 0.1


def split(video: AlignedVideo | Track, hold_out: float = HOLD_OUT) -> tuple[slice, slice]:
    """The rows to train on, and the held-out last rows of a video."""
    if not 0 <= hold_out < 1:
        raise UserError(f"hold_out: {hold_out} is no share of the video; give 0 <= hold_out < 1")
    cut = len(video.index) - int(len(video.index) * hold_out)
    return slice(0, cut), slice(cut, len(video.index))


def shrink(crops: np.ndarray, size: int) -> np.ndarray:
    """uint8 crops [N, S, S, 3] to [N, size, size, 3] by averaging whole blocks of pixels; S a multiple of size."""
    n, side = crops.shape[:2]
    if side == size:
        return crops
    if side % size:
        raise UserError(f"crops of {side} px cannot be averaged to {size} px; align at a multiple of {size}")
    k = side // size
    blocks = crops.reshape(n, size, k, size, k, 3).astype(np.uint32).sum((2, 4))
    return ((blocks + k * k // 2) // (k * k)).astype(np.uint8)
