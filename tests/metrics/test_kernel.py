"""The kernel distance against its double sum, and its lack of bias."""

import numpy as np
import pytest

from svgan.errors import UserError
from svgan.metrics.frechet import frechet_from_features
from svgan.metrics.kernel import KernelTo, polynomial_mmd


def samples(n: int, seed: int, shift: float = 0.0, features: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, features)) + shift


def by_sums(x: np.ndarray, y: np.ndarray) -> float:
    """Gretton et al.'s equation 3, term by term."""

    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def within(z):
        pairs = [kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]
        return sum(pairs) / len(pairs)

    across = [kernel(a, b) for a in x for b in y]
    return within(x) + within(y) - 2 * sum(across) / len(across)


def test_equals_the_double_sum():
    x, y = samples(9, 0), samples(13, 1, 0.7)
    assert polynomial_mmd(x, y) == pytest.approx(by_sums(x, y), rel=1e-9)
    assert polynomial_mmd(y, x) == pytest.approx(polynomial_mmd(x, y), rel=1e-9)


def test_unbiased_where_a_frechet_distance_is_not():
    """Two halves of one distribution: nought on average, within four standard errors."""
    pairs = [(samples(20, 2 * k), samples(20, 2 * k + 1)) for k in range(300)]
    found = np.array([polynomial_mmd(x, y) for x, y in pairs])
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
    assert (found < 0).any()
    assert min(frechet_from_features(x, y) for x, y in pairs[:30]) > 0.1


def test_grows_with_the_shift():
    real = samples(200, 0)
    found = [polynomial_mmd(samples(200, 1, shift), real) for shift in (0, 0.5, 1, 2)]
    assert found == sorted(found)
    assert found[1] > 5 * abs(found[0])


def test_counts_are_repeated_samples():
    x, y = samples(6, 2), samples(8, 3)
    counts = np.array([2, 0, 1, 1, 0, 2])
    assert KernelTo(y).prepared(x)(counts) == pytest.approx(by_sums(np.repeat(x, counts, axis=0), y), rel=1e-9)


def test_bad_input_is_one_line():
    with pytest.raises(UserError, match="equal width"):
        polynomial_mmd(samples(4, 0), samples(4, 0, features=6))
    with pytest.raises(UserError, match="2 or more"):
        polynomial_mmd(samples(1, 0), samples(4, 0))
    with pytest.raises(UserError, match="NaN or infinite"):
        polynomial_mmd(samples(4, 0) * np.nan, samples(4, 0))
