"""Bootstrap intervals of metrics, paired comparison of two models, and extrapolation to infinitely many clips.

A statistic is a function of counts [n]: how often each of n samples occurs. The real side is not resampled. So an
interval covers other seeds of the generator, not other footage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from svgan.errors import UserError

Statistic = Callable[[np.ndarray], float]
DRAWS, LEVEL = 200, 0.95
POINTS, SUBSETS = 15, 4


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The comparison of one metric of two models under one protocol.

    difference: first minus second, with its interval; if it is below zero, the first is better. sure: the share of
    resamples that agree which is better; 0.5 means undecided. NaN if one of the models lacks the metric.
    """

    difference: float
    low: float
    high: float
    sure: float

    @property
    def first_is_better(self) -> bool:
        return self.difference < 0


def weighted(values: Sequence[float] | np.ndarray) -> Statistic:
    """Return the mean of one value per sample as a statistic; NaN values are excluded, and it is NaN if all are."""
    known = np.asarray(values, np.float64)
    there = np.isfinite(known)

    def statistic(counts: np.ndarray) -> float:
        total = counts[there].sum()
        return float(counts[there] @ known[there] / total) if total else float("nan")

    return statistic


def resamples(n: int, draws: int = DRAWS, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield counts [n] of n samples drawn with replacement (Efron 1979). Raises UserError for fewer than two
    samples.
    """
    if n < 2:
        raise UserError(f"bootstrap: {n} samples tell nothing of their spread; give two or more clips")
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield generator.multinomial(n, np.full(n, 1 / n))


def interval(value: float, redrawn: np.ndarray, level: float = LEVEL) -> Interval:
    """Percentiles of resampled values [draws], shifted so that their mean equals the value.

    A resample has only about two thirds of the distinct samples, so its Fréchet distance exceeds that of all samples.
    After the shift the percentiles show the spread alone. (Ours: plain percentiles can lie wholly above the value.) NaN
    resamples are excluded; the ends are NaN if all are.
    """
    known = redrawn[np.isfinite(redrawn)]
    if not known.size:
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(known - known.mean() + value, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def bootstrap(statistic: Statistic, n: int, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Interval:
    """Return the statistic of all n samples, with the interval of `draws` resamples."""
    redrawn = np.array([statistic(counts) for counts in resamples(n, draws, seed)])
    return interval(statistic(np.ones(n)), redrawn, level)


def paired(
    first: Statistic, second: Statistic, n: int, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Comparison:
    """Compare which statistic is lower. The i-th samples of both have the same seed, and each resample uses the same
    counts.
    """
    difference = first(np.ones(n)) - second(np.ones(n))
    redrawn = np.array([first(counts) - second(counts) for counts in resamples(n, draws, seed)])
    found = interval(difference, redrawn, level)
    known = redrawn[np.isfinite(redrawn)]
    if not (difference and known.size):
        return Comparison(found.value, found.low, found.high, 0.5)
    agree = float(np.mean(np.sign(known - known.mean() + difference) == np.sign(difference)))
    return Comparison(found.value, found.low, found.high, max(agree, 0.5))


def endless(statistic: Statistic, n: int, *, seed: int = 0) -> float:
    """Extrapolate a metric to infinitely many samples: fit a line in 1/N to its values for random subsets of size N.

    The result is the line's value at 1/N = 0 (Chong and Forsyth 2020, arXiv:1911.07023, section 3.1: 15 sizes). Ours:
    sizes from a quarter of n to n, with four subsets each. The bias is linear in 1/N only if N is well above the number
    of features that vary. Raises UserError for fewer than 16 samples.
    """
    if n < 16:
        raise UserError(f"extrapolation: {n} samples are too few to draw subsets of; give 16 clips or more")
    generator = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(n // 4, n, POINTS).round().astype(int))
    found = []
    for size in sizes:
        own = []
        for _ in range(SUBSETS if size < n else 1):
            counts = np.zeros(n)
            counts[generator.permutation(n)[:size]] = 1
            own.append(statistic(counts))
        found.append(np.mean(own))
    _, at_zero = np.polyfit(1 / sizes, found, 1)
    return float(at_zero)
