"""Latent Fréchet distance (ours): the distance of generated windows of codes from real ones, in milliseconds.

It steers a sweep where FVD would take minutes. A window is described by its codes and by their movement over three
lags, so that wrong motion is detected even if all pictures are right. A frozen clip moves too little, a shuffled one
too much, a looping one returns too early.

    d = mean over lags k in {0, 1, (T-1)//2, T-1} of  d_F^2(real_k, fake_k) / c

lag 0: the codes; lag k: x_{t+k} - x_t, all t pooled. Each is cut to the c leading coordinates and divided by the real
standard deviation. So d is in units of the real variance per coordinate: 0 is equality, 1 a shift of every coordinate
by its own spread. One Gaussian over whole windows would have T c dimensions. Here each part has c, and stays
well-conditioned with a hundred windows.

Axes: n window, T frame, K width of the space, c leading coordinate.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.latents.stats import principal_axes
from svgan.metrics.frechet import frechet_distance
from svgan.metrics.moments import Moments

COORDINATES = 16
ORDERED_UP_TO = 128  # a space this narrow is a PCA space, its coordinates sorted already


def lags(length: int) -> list[int]:
    return sorted({0, 1, (length - 1) // 2, length - 1})


def steps(x: Tensor, lag: int) -> Tensor:
    """[n, T, c] to [n (T - lag), c]: the codes themselves for lag 0, else x_{t+lag} - x_t."""
    return (x[:, lag:] - x[:, :-lag] if lag else x).flatten(0, 1)


def leading_axes(real: Tensor, count: int) -> Tensor:
    """[K, c]: the first coordinates of a narrow space, the principal axes of a wide one."""
    width = real.shape[-1]
    if width <= ORDERED_UP_TO:
        return torch.eye(width, min(count, width), device=real.device)
    rows = real.flatten(0, 1).float().cpu()
    axes, _ = principal_axes((rows - rows.mean(0)).numpy(), count)
    return torch.from_numpy(axes).T.to(real.device)


class LatentDistance:
    """The distance to one set of real windows [n, T, K], whose own part is computed once."""

    def __init__(self, real: Tensor, coordinates: int = COORDINATES):
        if real.ndim != 3 or real.shape[1] < 2 or len(real) < 2:
            raise UserError(
                f"latent distance: real windows {tuple(real.shape)}, needs [n, T, K] with n, T of 2 or more"
            )
        self.shape = tuple(real.shape)
        self.axes = leading_axes(real, coordinates).float()
        self.spread: dict[int, Tensor] = {}
        self.real: dict[int, Moments] = {}
        leading = real.float() @ self.axes
        for lag in lags(real.shape[1]):
            moved = steps(leading, lag)
            self.spread[lag] = moved.std(0).clamp_min(1e-6)
            self.real[lag] = self._moments(moved, lag)

    def __call__(self, fake: Tensor) -> float:
        """Compute the distance of generated windows [m, T, K]; NaN codes give NaN."""
        return float(np.mean(list(self.parts(fake).values())))

    def parts(self, fake: Tensor) -> dict[int, float]:
        """Compute the part of each lag; the distance is their mean."""
        if fake.ndim != 3 or fake.shape[1:] != self.shape[1:]:
            raise UserError(f"latent distance: generated windows {tuple(fake.shape)}, the real ones are {self.shape}")
        leading = fake.float() @ self.axes.to(fake.device)
        if not torch.isfinite(leading).all():
            return dict.fromkeys(self.real, float("nan"))
        parts = {}
        for lag, real in self.real.items():
            found = self._moments(steps(leading, lag), lag)
            parts[lag] = frechet_distance(real.mean, real.cov, found.mean, found.cov) / len(real.mean)
        return parts

    def _moments(self, moved: Tensor, lag: int) -> Moments:
        return Moments(moved.shape[1]).update((moved / self.spread[lag].to(moved.device)).double())


def latent_frechet_distance(real: Tensor, fake: Tensor, coordinates: int = COORDINATES) -> float:
    """Distance between windows real [n, T, K] and fake [m, T, K] of codes in one space; see the module."""
    return LatentDistance(real, coordinates)(fake)
