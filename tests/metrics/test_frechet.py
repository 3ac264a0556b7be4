"""The Fréchet distance against scipy's matrix square root, and its forms against each other."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from svgan.errors import UserError
from svgan.metrics.frechet import covariance_factor, frechet_distance, frechet_from_features


def by_sqrtm(x: np.ndarray, y: np.ndarray) -> float:
    s1, s2 = np.cov(x.T), np.cov(y.T)
    root = sqrtm(s1 @ s2)
    return float(np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s1 + s2 - 2 * np.real(root)))


def samples(n: int, features: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, features)) @ rng.normal(size=(features, features)) + rng.normal(size=features)


def test_equals_sqrtm_at_full_rank():
    x, y = samples(400, 24, 0), samples(300, 24, 1)
    expected = by_sqrtm(x, y)
    assert frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)) == pytest.approx(expected, rel=1e-9)
    assert frechet_from_features(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(20, 30), (20, 200), (200, 20)])
def test_few_samples_svd_equals_eigenvalues_and_sqrtm(n, m):
    x, y = samples(n, 64, 2), samples(m, 64, 3)
    whole = frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_from_features(x, y) == pytest.approx(whole, rel=1e-6)
    assert whole == pytest.approx(by_sqrtm(x, y), rel=1e-3)  # sqrtm of a singular matrix is itself inexact


def test_closed_forms():
    eye = np.eye(5)
    assert frechet_distance(np.zeros(5), eye, np.ones(5), eye) == pytest.approx(5)
    assert frechet_distance(np.zeros(5), 4 * eye, np.zeros(5), 9 * eye) == pytest.approx(5)  # 5 (3 - 2)^2
    x = samples(30, 64, 4)
    assert frechet_from_features(x, x) == pytest.approx(0, abs=1e-6)


def test_symmetric():
    x, y = samples(50, 20, 5), samples(60, 20, 6)
    there = frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_distance(y.mean(0), np.cov(y.T), x.mean(0), np.cov(x.T)) == pytest.approx(there, rel=1e-9)


def test_factor_of_a_singular_covariance():
    cov = np.cov(samples(10, 30, 7).T)
    factor = covariance_factor(cov)
    np.testing.assert_allclose(factor @ factor.T, cov, atol=1e-9 * np.trace(cov))


def test_bad_input_is_one_line():
    with pytest.raises(UserError, match="diverged"):
        frechet_distance(np.full(2, np.nan), np.eye(2), np.zeros(2), np.eye(2))
    with pytest.raises(UserError, match="do not fit"):
        frechet_distance(np.zeros(3), np.eye(3), np.zeros(2), np.eye(2))
    with pytest.raises(UserError, match="diverged"):
        frechet_from_features(np.full((3, 9), np.inf), np.zeros((4, 9)))
    with pytest.raises(UserError, match="two samples"):
        frechet_from_features(np.zeros((1, 9)), np.zeros((4, 9)))
