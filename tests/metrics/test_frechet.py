"""The Fréchet distance against scipy's matrix square root, and its forms against each other."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from svgan.errors import UserError
from svgan.metrics.frechet import FrechetTo, covariance_factor, frechet_distance, frechet_from_features
from svgan.metrics.moments import Moments


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


@pytest.mark.parametrize("features", [3, 400])
def test_rank_deficient_gaussians_of_known_distance(features):
    """S1 = a a^T and S2 = b b^T do not commute; tr((S1 S2)^(1/2)) = |a . b|."""
    a, b = np.random.default_rng(8).normal(size=(2, features))
    zero = np.zeros(features)
    expected = a @ a + b @ b - 2 * abs(a @ b)
    assert frechet_distance(zero, np.outer(a, a), zero, np.outer(b, b)) == pytest.approx(expected, rel=1e-6)
    flat = np.diag(np.r_[4.0, np.zeros(features - 1)])
    wide = np.diag(np.r_[9.0, 1.0, np.zeros(features - 2)])
    assert frechet_distance(zero, flat, zero, wide) == pytest.approx((3 - 2) ** 2 + 1, rel=1e-6)


def test_equals_sqrtm_on_moments_of_an_i3d_like_spectrum():
    """400 features whose spread falls off as I3D's, full rank: streamed moments against scipy, within 1e-6."""
    rng = np.random.default_rng(9)
    basis = rng.normal(size=(400, 400)) * np.exp(-np.arange(400) / 60)[:, None]
    x, y = rng.normal(size=(700, 400)) @ basis, 1.1 * rng.normal(size=(600, 400)) @ basis
    moments = [Moments(400), Moments(400)]
    for side, some in zip(moments, (x, y), strict=True):
        for part in np.array_split(some, 7):
            side.update(part)
    found = frechet_distance(moments[0].mean, moments[0].cov, moments[1].mean, moments[1].cov)
    assert found == pytest.approx(by_sqrtm(x, y), rel=1e-6)


@pytest.mark.parametrize(("n", "unbiased"), [(20, True), (20, False), (300, True), (300, False)])
def test_the_prepared_distance_is_the_plain_one(n, unbiased):
    x, y = samples(n, 64, 10), samples(200, 64, 11)
    of = FrechetTo.of_moments(y.mean(0), np.cov(y.T), unbiased=unbiased).prepared(x)
    plain = frechet_distance(x.mean(0), np.cov(x.T, bias=not unbiased), y.mean(0), np.cov(y.T))
    assert of(np.ones(n)) == pytest.approx(plain, rel=1e-6)
    samplewise = FrechetTo.of_features(y, unbiased=unbiased)
    few = FrechetTo.of_features(y[:30], unbiased=unbiased).prepared(x)(np.ones(n))
    assert few == pytest.approx(
        frechet_distance(
            x.mean(0), np.cov(x.T, bias=not unbiased), y[:30].mean(0), np.cov(y[:30].T, bias=not unbiased)
        ),
        rel=1e-6,
    )
    if unbiased:
        assert samplewise.prepared(x)(np.ones(n)) == pytest.approx(plain, rel=1e-6)
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n))
    again = np.repeat(x, counts, axis=0)
    plain = frechet_distance(again.mean(0), np.cov(again.T, bias=not unbiased), y.mean(0), np.cov(y.T))
    assert of(counts) == pytest.approx(plain, rel=1e-6)


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
    with pytest.raises(UserError, match="diverged"):
        FrechetTo.of_moments(np.zeros(9), np.eye(9)).prepared(np.full((3, 9), np.nan))
    with pytest.raises(UserError, match="two samples"):
        frechet_from_features(np.zeros((1, 9)), np.zeros((4, 9)))
