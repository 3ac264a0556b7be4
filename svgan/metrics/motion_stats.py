"""Statistics of motion in a sequence: standstill, and the amount of motion compared with the footage (ours).

Axes: T frame; a signal is [T] or [T, ...], codes, frames or a landmark measure.
"""

from __future__ import annotations

from collections.abc import Callable

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
    """The step below which a frame counts as still: a tenth of the footage's median step."""
    return share * float(np.median(step_sizes(footage)))


def still_run(signal: np.ndarray, fps: float, threshold: float) -> float:
    """The longest stretch, in seconds, in which all steps are at most `threshold`."""
    longest = current = 0
    for still in step_sizes(signal) <= threshold:
        current = current + 1 if still else 0
        longest = max(longest, current)
    return longest / fps


def spread_ratio(signal: np.ndarray, footage: np.ndarray) -> float:
    """Standard deviation of a measure [T] divided by the footage's; NaN frames (no face) are excluded."""
    return float(np.nanstd(signal) / np.nanstd(footage))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation over the frames in which both measures [T] are known; NaN for fewer than three such
    frames.
    """
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3:
        return float("nan")
    return float(np.corrcoef(a[known], b[known])[0, 1])


def speeds(clips: np.ndarray) -> np.ndarray:
    """Step sizes of clips [n, T, ...], [n, T - 1]."""
    return np.stack([step_sizes(clip) for clip in clips])


def motion_power(clips: np.ndarray, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies [F] in Hz and each clip's power at them, [n, F].

    The power is that of the steps x_{t+1} - x_t of clips [n, T, K] under a Hann window, summed over the coordinates. A
    clip without motion gets a tiny power at 0 Hz.
    """
    steps = np.diff(np.asarray(clips, np.float64), axis=1)
    window = np.hanning(steps.shape[1] + 2)[1:-1, None]
    power = np.square(np.abs(np.fft.rfft(steps * window, axis=1))).sum(2)
    power[:, 0] += np.finfo(np.float64).tiny
    return np.fft.rfftfreq(steps.shape[1], 1 / fps), power


def speed_distance(clips: np.ndarray, footage: np.ndarray) -> float:
    """W1 between the per-frame speeds of clips [n, T, K] and the footage's [m, T', K], in units of its median speed."""
    return speed_statistic(clips, footage)(np.ones(len(clips)))


def speed_statistic(clips: np.ndarray, footage: np.ndarray) -> Callable[[np.ndarray], float]:
    """`speed_distance` as a function of counts [n] (how often each clip occurs)."""
    ours, theirs = speeds(clips), speeds(footage).ravel()
    unit = max(float(np.median(theirs)), 1e-12)
    return lambda counts: _w1(ours.ravel(), theirs, np.repeat(counts, ours.shape[1])) / unit


def spectrum_distance(clips: np.ndarray, footage: np.ndarray, fps: float) -> float:
    """W1 in Hz between the power spectra of the motion of clips [n, T, K] and of the footage's [m, T', K]."""
    return spectrum_statistic(clips, footage, fps)(np.ones(len(clips)))


def spectrum_statistic(clips: np.ndarray, footage: np.ndarray, fps: float) -> Callable[[np.ndarray], float]:
    """`spectrum_distance` as a function of counts [n] (how often each clip occurs)."""
    (at, ours), (theirs_at, theirs) = motion_power(clips, fps), motion_power(footage, fps)
    return lambda counts: _w1(at, theirs_at, counts @ ours, theirs.sum(0))


def _w1(x: np.ndarray, y: np.ndarray, x_weights: np.ndarray, y_weights: np.ndarray | None = None) -> float:
    """scipy's W1 between two weighted samples on a line. Importing scipy.stats costs 0.6 s of CPU, so it
    happens here.
    """
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(x, y, x_weights, y_weights))
