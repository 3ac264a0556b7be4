"""How sure is a figure? Bootstrap intervals, a paired comparison of two models, and the value for endless clips.

A statistic here is a function of counts [n]: how often each of n samples is there. The real side stays as it is, so an
interval says what another seed of the generator could have given, not what other footage could.
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
    """A figure and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Of two models under one protocol: their figures' difference (first minus second; below zero the first is
    better), its interval, and the share of resamples that agree which is better, 0.5 being a toss. NaN where one of
    the two has no such figure."""

    difference: float
    low: float
    high: float
    sure: float

    @property
    def first_is_better(self) -> bool:
        return self.difference < 0


def weighted(values: Sequence[float] | np.ndarray) -> Statistic:
    """The mean of a value per sample, those that are NaN left out; NaN where all are."""
    known = np.asarray(values, np.float64)
    there = np.isfinite(known)

    def statistic(counts: np.ndarray) -> float:
        total = counts[there].sum()
        return float(counts[there] @ known[there] / total) if total else float("nan")

    return statistic


def resamples(n: int, draws: int = DRAWS, seed: int = 0) -> Iterator[np.ndarray]:
    """Counts [n] of n samples drawn with replacement (Efron 1979). Raises UserError for fewer than two samples."""
    if n < 2:
        raise UserError(f"bootstrap: {n} samples tell nothing of their spread; give two or more clips")
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield generator.multinomial(n, np.full(n, 1 / n))


def interval(value: float, redrawn: np.ndarray, level: float = LEVEL) -> Interval:
    """The percentiles of resampled figures [draws], moved so that their mean is the figure's own.

    A resample has only some two thirds of the samples, so a Fréchet distance of it lies above that of all: moved back,
    the percentiles say the spread alone. (Ours; the plain ones can lie wholly above the figure.) Resamples that give
    no number are left out; NaN where none gives one.
    """
    known = redrawn[np.isfinite(redrawn)]
    if not known.size:
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(known - known.mean() + value, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def bootstrap(statistic: Statistic, n: int, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Interval:
    """The statistic of all n samples, with the interval of `draws` resamples."""
    redrawn = np.array([statistic(counts) for counts in resamples(n, draws, seed)])
    return interval(statistic(np.ones(n)), redrawn, level)


def paired(
    first: Statistic, second: Statistic, n: int, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Comparison:
    """Which of two is lower: the i-th samples of both are of one seed, and every resample takes the same of both."""
    difference = first(np.ones(n)) - second(np.ones(n))
    redrawn = np.array([first(counts) - second(counts) for counts in resamples(n, draws, seed)])
    found = interval(difference, redrawn, level)
    known = redrawn[np.isfinite(redrawn)]
    if not (difference and known.size):
        return Comparison(found.value, found.low, found.high, 0.5)
    agree = float(np.mean(np.sign(known - known.mean() + difference) == np.sign(difference)))
    return Comparison(found.value, found.low, found.high, max(agree, 0.5))


def endless(statistic: Statistic, n: int, *, seed: int = 0) -> float:
    """The figure's value for endlessly many samples: a line in 1/N through figures of random subsets of N, at 1/N = 0
    (Chong and Forsyth 2020, arXiv:1911.07023, section 3.1: 15 sizes). Ours from a quarter of n to n, four subsets each.

    The bias is a line in 1/N only where N is well above the number of features that vary. Raises UserError for fewer
    than 16 samples.
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
