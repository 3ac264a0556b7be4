"""The Fréchet distance between two Gaussians (Dowson and Landau 1982), used by FID, FVD and the latent distance.

    d^2 = |mu1 - mu2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))

The last trace needs no matrix square root: with S1 = L L^T, S1 S2 has the eigenvalues of the symmetric L^T S2 L. All is
computed in float64 on the CPU. Axes: n sample, F feature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from svgan.errors import UserError


def covariance_factor(cov: np.ndarray) -> np.ndarray:
    """L [F, F] with L L^T = cov: from Cholesky's decomposition, or V sqrt(w) from eigenvectors if cov is singular."""
    try:
        return np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(cov)
        return vectors * np.sqrt(values.clip(0))


def trace_sqrt_product(cov1: np.ndarray, cov2: np.ndarray) -> float:
    """tr((S1 S2)^(1/2)) as the sum of sqrt(eigenvalues of L^T S2 L), S1 = L L^T."""
    factor = covariance_factor(cov1)
    return float(np.sqrt(np.linalg.eigvalsh(factor.T @ cov2 @ factor).clip(0)).sum())


def frechet_distance(mu1: np.ndarray, cov1: np.ndarray, mu2: np.ndarray, cov2: np.ndarray) -> float:
    """d^2 of means [F] and covariances [F, F]; never below zero.

    Raises UserError for differing shapes or non-finite numbers.
    """
    mu1, cov1, mu2, cov2 = (np.asarray(a, np.float64) for a in (mu1, cov1, mu2, cov2))
    if mu1.shape != mu2.shape or cov1.shape != cov2.shape or cov1.shape != (len(mu1), len(mu1)):
        raise UserError(f"Fréchet distance: shapes {mu1.shape} {cov1.shape} and {mu2.shape} {cov2.shape} do not fit")
    if not all(np.isfinite(a).all() for a in (mu1, cov1, mu2, cov2)):
        raise UserError("Fréchet distance: a feature is NaN or infinite; the generator has probably diverged")
    spread = np.trace(cov1) + np.trace(cov2) - 2 * trace_sqrt_product(cov1, cov2)
    return float(max(np.square(mu1 - mu2).sum() + spread, 0))


def frechet_from_features(x: np.ndarray, y: np.ndarray) -> float:
    """d^2 between features x [n, F] and y [m, F]; with fewer samples than features it costs n m F instead of F^3.

    tr((S1 S2)^(1/2)) is the sum of the singular values of X Y^T, with X and Y centred and divided by sqrt(n - 1).
    """
    x, y = (np.asarray(a, np.float64) for a in (x, y))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise UserError(f"Fréchet distance: features {x.shape} and {y.shape}; two samples or more of equal width")
    if min(len(x), len(y)) >= x.shape[1]:
        return frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("Fréchet distance: a feature is NaN or infinite; the generator has probably diverged")
    a, b = ((f - f.mean(0)) / np.sqrt(len(f) - 1) for f in (x, y))
    spread = np.square(a).sum() + np.square(b).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(max(np.square(x.mean(0) - y.mean(0)).sum() + spread, 0))


@dataclass(frozen=True)
class FrechetTo:
    """d^2 to one Gaussian of mean [F] and covariance L L^T. The factor L [F, any] is computed once, for all resamples.

    unbiased: whether the other side's covariance is divided by n - 1; else by n.
    """

    mean: np.ndarray
    factor: np.ndarray
    unbiased: bool = True

    @classmethod
    def of_moments(cls, mean: np.ndarray, cov: np.ndarray, *, unbiased: bool = True) -> FrechetTo:
        return cls(mean, covariance_factor(cov), unbiased)

    @classmethod
    def of_features(cls, features: np.ndarray, *, unbiased: bool = True) -> FrechetTo:
        """Make it from samples [m, F]; if m < F, the centred samples are the factor."""
        y = np.asarray(features, np.float64)
        if not np.isfinite(y).all():
            raise UserError("Fréchet distance: a feature of the real side is NaN or infinite; was its footage damaged?")
        deviations = (y - y.mean(0)) / np.sqrt(len(y) - unbiased)
        few = len(y) < y.shape[1]
        return cls(y.mean(0), deviations.T if few else covariance_factor(deviations.T @ deviations), unbiased)

    def prepared(self, x: np.ndarray) -> Callable[[np.ndarray], float]:
        """Return the distance of samples x [n, F] as a function of counts [n] (how often each occurs)."""
        x = np.asarray(x, np.float64)
        if not np.isfinite(x).all():
            raise UserError("Fréchet distance: a feature is NaN or infinite; the generator has probably diverged")

        trace = np.square(self.factor).sum()

        def statistic(counts: np.ndarray) -> float:
            there = counts > 0
            rows, weights, total = x[there], counts[there].astype(np.float64), float(counts.sum())
            mean = weights @ rows / total
            deviations = (rows - mean) * np.sqrt(weights / (total - self.unbiased))[:, None]
            product = deviations @ self.factor  # tr((S1 S2)^(1/2)) is the sum of its singular values
            gram = product @ product.T if len(product) < product.shape[1] else product.T @ product
            root = np.sqrt(np.linalg.eigvalsh(gram).clip(0)).sum()
            spread = trace + np.square(deviations).sum() - 2 * root
            return float(max(np.square(self.mean - mean).sum() + spread, 0))

        return statistic
