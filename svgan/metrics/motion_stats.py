"""Plain figures of a sequence: does it stand still, does it move as much as the footage? Ours.

Axes: T frame; a signal is [T] or [T, ...], codes, frames or a landmark measure.
"""

from __future__ import annotations

import numpy as np

from svgan.errors import UserError


def step_sizes(signal: np.ndarray) -> np.ndarray:
    """Root mean square change from each frame to the next, [T - 1]."""
    x = np.asarray(signal, np.float32)
    if len(x) < 2:
        raise UserError(f"motion: {len(x)} frames have no motion; give two or more")
    change = np.diff(x, axis=0).reshape(len(x) - 1, -1)
    return np.sqrt(np.mean(np.square(change), axis=1))


def still_threshold(footage: np.ndarray, share: float = 0.1) -> float:
    """A step below which a frame counts as still: a tenth of the footage's median step."""
    return share * float(np.median(step_sizes(footage)))


def still_run(signal: np.ndarray, fps: float, threshold: float) -> float:
    """The longest stretch, in seconds, whose steps are all at most `threshold`."""
    longest = current = 0
    for still in step_sizes(signal) <= threshold:
        current = current + 1 if still else 0
        longest = max(longest, current)
    return longest / fps


def spread_ratio(signal: np.ndarray, footage: np.ndarray) -> float:
    """Standard deviation of a measure [T] over the footage's; NaN frames (no face) are left out."""
    return float(np.nanstd(signal) / np.nanstd(footage))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's over the frames in which both measures [T] are known; NaN for fewer than three such frames."""
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3:
        return float("nan")
    return float(np.corrcoef(a[known], b[known])[0, 1])
