"""Whether a long clip repeats itself, stands still, or drifts away, which GAP is meant to prevent. Measured on codes
(ours).

Codes are PCA coordinates about the footage's mean, in one unit for all axes. Every metric is reported with the
footage's own value, because a talking man returns to earlier poses too.

Axes: n clip, T frame, K coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from svgan.errors import UserError
from svgan.metrics.intervals import Statistic, weighted
from svgan.metrics.motion_stats import spectrum_statistic, speed_statistic, step_sizes, still_threshold
from svgan.motion.gradient_angle import EPSILON, gap_distance, gradient_angle
from svgan.motion.gru import GRUMotion

QUANTILE = 0.05  # quantile of the footage's distances to the nearest earlier code; nearer ones are recurrences
FROZEN = 1e-3  # a clip with less spread, in units of the footage's, counts as a repetition at every lag
ENDS = 0.1  # share of a clip that counts as its beginning, and as its end
LEAST_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class Loops:
    """Metrics of long clips.

    - repeat: the highest autocorrelation at lags above one second; 1 is a loop.
    - recurrence: share of frames after the first second whose code is close to one at least a second older. Close means
      nearer than the nearest 5 % in the footage.
    - still: share of steps below a tenth of the footage's median step.
    - norm_drift: increase of the distance from the footage's mean from a clip's beginning to its end, in units of the
      footage's mean distance.
    - speed, spectrum: W1 distances of speeds and of the motion's power spectrum from the footage's, in units of the
      footage's median speed and in Hz. The footage's own values compare one half with the other.
    """

    repeat: float
    recurrence: float
    still: float
    norm_drift: float
    speed: float
    spectrum: float


class LoopJudge:
    """Measures clips against the footage's clips [n, T, K], with n and T of two or more, T of three seconds or more."""

    def __init__(self, footage: np.ndarray, fps: float):
        self.footage, self.fps, self.second = np.asarray(footage, np.float64), fps, round(fps)
        if self.footage.ndim != 3 or len(self.footage) < 2 or self.footage.shape[1] < LEAST_SECONDS * fps:
            raise UserError(
                f"loops: footage of shape {self.footage.shape}; needs two clips [n, T, K] of {LEAST_SECONDS:g} s or "
                f"more ({LEAST_SECONDS * fps:.0f} frames); embed longer footage"
            )
        self.spread = float(np.sqrt(np.square(self.footage - self.footage.mean((0, 1))).sum(2).mean()))
        self.norm = float(np.linalg.norm(self.footage, axis=2).mean())
        self.threshold = float(np.median([still_threshold(clip) for clip in self.footage]))
        self.near = float(np.quantile(np.concatenate([self._nearest(clip) for clip in self.footage]), QUANTILE))
        half = len(self.footage) // 2
        whole = _all(self._prepared(self.footage, self.footage), len(self.footage))
        parts = _all(self._prepared(self.footage[:half], self.footage[half:]), half)
        self.own = replace(whole, speed=parts.speed, spectrum=parts.spectrum)

    def __call__(self, clips: np.ndarray) -> Loops:
        """Measure generated clips [m, T, K]. Raises UserError for codes that are not finite, or of another shape."""
        return _all(self.prepared(clips), len(clips))

    def prepared(self, clips: np.ndarray) -> dict[str, Statistic]:
        """Return the metrics of clips [m, T, K] as functions of counts [m] (how often each clip occurs)."""
        clips = np.asarray(clips, np.float64)
        if clips.ndim != 3 or clips.shape[1:] != self.footage.shape[1:]:
            raise UserError(f"loops: clips of shape {clips.shape}, the footage's are {self.footage.shape}")
        if not np.isfinite(clips).all():
            raise UserError("loops: a code is NaN or infinite; the generator has diverged")
        return self._prepared(clips, self.footage)

    def _prepared(self, clips: np.ndarray, footage: np.ndarray) -> dict[str, Statistic]:
        return {
            "repeat": weighted([self._repeat(clip) for clip in clips]),
            "recurrence": weighted(np.array([np.mean(self._nearest(clip) < self.near) for clip in clips])),
            "still": weighted(np.array([np.mean(step_sizes(clip) <= self.threshold) for clip in clips])),
            "norm_drift": weighted([norm_change(clip) / self.norm for clip in clips]),
            "speed": speed_statistic(clips, footage),
            "spectrum": spectrum_statistic(clips, footage, self.fps),
        }

    def _repeat(self, clip: np.ndarray) -> float:
        if np.sqrt(np.square(clip - clip.mean(0)).sum(1).mean()) < FROZEN * self.spread:
            return 1.0
        return float(autocorrelation(clip)[self.second + 1 :].max())

    def _nearest(self, clip: np.ndarray) -> np.ndarray:
        return nearest_earlier(clip, self.second)


def _all(statistics: dict[str, Statistic], clips: int) -> Loops:
    return Loops(**{name: statistic(np.ones(clips)) for name, statistic in statistics.items()})


def autocorrelation(x: np.ndarray) -> np.ndarray:
    """r(k) of codes [T, K] for lags 0 to T // 2, normalised so that 1 is a repetition.

    r(k) is the sum over t of <x_t - m, x_{t+k} - m> with mean m, divided by the mean power of the two stretches (McLeod
    and Wyvill 2005, their n'(tau)).
    """
    length = len(x)
    lags = np.arange(length // 2 + 1)
    centred = x - x.mean(0)
    spectrum = np.square(np.abs(np.fft.rfft(centred, 2 * length, axis=0))).sum(1)
    products = np.fft.irfft(spectrum)[: len(lags)]
    power = np.concatenate([[0.0], np.cumsum(np.square(centred).sum(1))])
    return 2 * products / (power[length - lags] + power[-1] - power[lags])


def nearest_earlier(x: np.ndarray, lag: int) -> np.ndarray:
    """For each frame from `lag` on, the distance of its code to the nearest one at least `lag` frames older, [T - lag].

    These are the close returns of a recurrence plot (Eckmann et al. 1987).
    """
    codes = torch.from_numpy(np.ascontiguousarray(x, np.float64))
    apart = torch.cdist(codes[lag:], codes, compute_mode="donot_use_mm_for_euclid_dist")
    too_new = torch.arange(len(codes))[None] > torch.arange(len(codes) - lag)[:, None]
    return apart.masked_fill(too_new, torch.inf).amin(1).numpy()


def norm_change(x: np.ndarray) -> float:
    """Mean norm of the last tenth of the codes [T, K] minus that of the first."""
    norms = np.linalg.norm(x, axis=1)
    part = max(1, round(ENDS * len(x)))
    return float(norms[-part:].mean() - norms[:part].mean())


def gradient_angles(motion: GRUMotion, length: int, clips: int, generator: torch.Generator) -> np.ndarray:
    """phi of clips of `length` frames, in radians, [clips]; near 0 if the first frame alone determines a clip.

    The mean and spread in d are those of these clips; in training they are running values.
    """
    noise = motion.draw(clips, length, generator).requires_grad()
    with torch.enable_grad():
        _, latents = motion(noise)
        moved = (latents[:, -1] - latents[:, 0]).detach()
        spread = (moved.var(0, unbiased=False) + EPSILON).sqrt()
        phi = gradient_angle(gap_distance(latents, moved.mean(0), spread), noise)
    return phi.detach().cpu().double().numpy()
