"""Count, mean and covariance of features: streamed, merged, and saved to a file.

Axes: n sample, F feature.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from svgan.errors import UserError
from svgan.io.atomic import disk_errors, write_whole
from svgan.metrics.protocol import Covariance


class Moments:
    """First and second moments in float64; batches of any size give the same numbers.

    facts: a description of what they are the moments of (JSON), saved with them.
    """

    def __init__(self, features: int, facts: dict[str, Any] | None = None):
        self.count = 0
        self.mean = np.zeros(features)
        self.scatter = np.zeros((features, features))  # sum of outer products of deviations from the mean
        self.facts = facts or {}

    @property
    def cov(self) -> np.ndarray:
        """Unbiased covariance [F, F]. Raises UserError for fewer than two samples."""
        return self.covariance("1/(N-1)")

    def covariance(self, rule: Covariance) -> np.ndarray:
        """[F, F], the scatter times 1/(N-1) or 1/N. Raises UserError for fewer than two samples."""
        if self.count < 2:
            raise UserError(f"moments of {self.count} samples have no covariance; give two or more")
        return self.scatter / (self.count - 1 if rule == "1/(N-1)" else self.count)

    def update(self, features: np.ndarray | Tensor) -> Moments:
        """Add samples [n, F]."""
        x = np.asarray(features.cpu() if isinstance(features, Tensor) else features, np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise UserError(f"moments of {len(self.mean)} features cannot take samples of shape {x.shape}")
        if len(x):
            mean = x.mean(0)
            self._combine(len(x), mean, (x - mean).T @ (x - mean))
        return self

    def merge(self, other: Moments) -> Moments:
        """Add all samples of another Moments, as if they had been added here."""
        if other.mean.shape != self.mean.shape:
            raise UserError(f"moments of {len(self.mean)} and {len(other.mean)} features do not merge")
        if other.count:
            self._combine(other.count, other.mean, other.scatter)
        return self

    def _combine(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        """Chan, Golub and LeVeque 1979, equation 2.1."""
        total = self.count + count
        apart = mean - self.mean
        self.scatter += scatter + np.outer(apart, apart) * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    def save(self, path: Path, dtype: Literal["float32", "float64"] = "float64") -> None:
        """Write one safetensors file, atomically: count, mean, and the covariance's lower triangle.

        Raises UserError if the disk is full.
        """
        from safetensors.numpy import save_file

        triangle = self.cov[np.tril_indices(len(self.mean))]
        tensors = {"count": np.array([self.count]), "mean": self.mean.astype(dtype), "cov": triangle.astype(dtype)}
        with disk_errors(path), write_whole(path) as aside:
            save_file(tensors, aside, metadata={"facts": json.dumps(self.facts, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> Moments:
        """Load what `save` wrote. Raises UserError naming a missing or damaged file."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as f:
                count, mean, triangle = (f.get_tensor(k) for k in ("count", "mean", "cov"))
                moments = cls(len(mean), json.loads(f.metadata()["facts"]))
            lower = np.zeros_like(moments.scatter)
            lower[np.tril_indices(len(mean))] = triangle
        except FileNotFoundError as error:
            raise UserError(f"{path}: no moments here") from error
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not a file of moments ({error}); delete it, it is made again") from error
        moments.count, moments.mean = int(count[0]), mean.astype(np.float64)
        moments.scatter = (lower + np.tril(lower, -1).T) * (moments.count - 1)
        return moments
