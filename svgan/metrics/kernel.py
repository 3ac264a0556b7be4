"""Kernel distances: KVD on I3D features of clips, KID on Inception features of pictures.

They are unbiased: few samples do not raise them, as they raise a Fréchet distance. They need the features of both
sides, not only their moments. All is computed in float64 on the CPU. Axes: n, m sample, F feature.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from svgan.errors import UserError

DEGREE = 3


def polynomial_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """k(a, b) = (a . b / F + 1)^3 of x [n, F] and y [m, F], as [n, m].

    Bińkowski et al. 2018, arXiv:1801.01401, section 4.
    """
    return (x @ y.T / x.shape[1] + 1) ** DEGREE


def polynomial_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy of x [n, F] and y [m, F]; it can be below zero.

    Raises UserError for differing widths, fewer than two samples, or non-finite numbers.
    """
    x, y = check_features(x), check_features(y)
    if x.shape[1] != y.shape[1]:
        raise UserError(f"kernel distance: features {x.shape} and {y.shape}; they must be of equal width")
    return KernelTo(y)(x)


class KernelTo:
    """The squared discrepancy to one set of samples y [m, F], whose own term is computed once.

    MMD^2 = sum_{i != j} k(x_i, x_j) / (n (n - 1)) + sum_{i != j} k(y_i, y_j) / (m (m - 1)) - 2 mean k(x_i, y_j)
    (Gretton et al. 2012, equation 3).
    """

    def __init__(self, y: np.ndarray):
        self.y = check_features(y)
        own = polynomial_kernel(self.y, self.y)
        self.within = off_diagonal_mean(own, np.ones(len(own)))

    def __call__(self, x: np.ndarray) -> float:
        """Compute the discrepancy of samples x [n, F]."""
        return self.prepared(x)(np.ones(len(x)))

    def prepared(self, x: np.ndarray) -> Callable[[np.ndarray], float]:
        """Return the distance of x as a function of counts [n]; both kernels are computed once for all resamples."""
        x = check_features(x)
        own, across = polynomial_kernel(x, x), polynomial_kernel(x, self.y).mean(1)

        def statistic(counts: np.ndarray) -> float:
            return float(off_diagonal_mean(own, counts) + self.within - 2 * (counts @ across) / counts.sum())

        return statistic


def off_diagonal_mean(kernel: np.ndarray, counts: np.ndarray) -> float:
    """Mean of a kernel [n, n] over pairs of different samples, with sample i occurring counts[i] times."""
    total = counts.sum()
    return float((counts @ kernel @ counts - counts @ np.diag(kernel)) / (total * (total - 1)))


def check_features(x: np.ndarray) -> np.ndarray:
    """Return features [n, F] in float64. Raises UserError for fewer than two samples, or non-finite numbers."""
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise UserError(f"kernel distance: features {x.shape}; needs [n, F] with n of 2 or more")
    if not np.isfinite(x).all():
        raise UserError("kernel distance: a feature is NaN or infinite; the generator has probably diverged")
    return x
