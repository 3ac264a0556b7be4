"""Streamed moments against numpy, and through a file."""

import numpy as np
import pytest
import torch

from svgan.errors import UserError
from svgan.metrics.frechet import frechet_distance
from svgan.metrics.moments import Moments

DATA = np.random.default_rng(0).normal(size=(101, 12)) @ np.random.default_rng(1).normal(size=(12, 12)) + 1e3


def filled(parts: list[np.ndarray]) -> Moments:
    moments = Moments(12, {"of": "test"})
    for part in parts:
        moments.update(part)
    return moments


@pytest.mark.parametrize("cuts", [[], [1], [50, 50, 77], list(range(1, 101))])
def test_any_batches_equal_numpy(cuts):
    moments = filled(np.split(DATA, cuts))
    assert moments.count == len(DATA)
    np.testing.assert_allclose(moments.mean, DATA.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.cov, np.cov(DATA.T), rtol=1e-9, atol=1e-9)


def test_merge_equals_one_pass_and_takes_tensors():
    merged = filled([DATA[:30]]).merge(Moments(12)).merge(filled([DATA[30:]]))
    np.testing.assert_allclose(merged.cov, np.cov(DATA.T), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(merged.covariance("1/N"), np.cov(DATA.T, bias=True), rtol=1e-9, atol=1e-9)
    assert Moments(12).update(torch.zeros(3, 12)).count == 3


def test_parts_of_several_workers_in_order_are_one_worker():
    """Each worker keeps its own moments; merged they are numpy's of all, whichever has how many."""
    whole = filled([DATA])
    for cuts in ([20, 40, 60, 80], [1, 2, 99], [50]):
        merged = Moments(12)
        for part in np.split(DATA, cuts):
            merged.merge(filled([part]))
        assert merged.count == whole.count
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
        np.testing.assert_allclose(merged.cov, whole.cov, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float32", 1e-6)])
def test_round_trip_through_a_file(tmp_path, dtype, tolerance):
    moments = filled([DATA])
    moments.save(tmp_path / "new" / "m.safetensors", dtype)
    back = Moments.load(tmp_path / "new" / "m.safetensors")
    assert (back.count, back.facts) == (101, {"of": "test"})
    np.testing.assert_allclose(back.mean, moments.mean, rtol=tolerance)
    np.testing.assert_allclose(back.cov, moments.cov, rtol=tolerance, atol=tolerance)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["m.safetensors"]
    more = DATA[:7] + 1
    np.testing.assert_allclose(back.update(more).cov, np.cov(np.concatenate([DATA, more]).T), rtol=1e-3, atol=1e-3)


def test_a_distance_from_a_float32_file_differs_by_less_than_a_thousandth(tmp_path):
    rng = np.random.default_rng(2)
    basis = rng.normal(size=(400, 400)) * np.exp(-np.arange(400) / 40)[:, None]  # a spectrum like I3D's
    real = Moments(400).update(rng.normal(size=(256, 400)) @ basis)
    fake = Moments(400).update(rng.normal(size=(64, 400)) @ basis)
    real.save(tmp_path / "m.safetensors", "float32")
    stored = Moments.load(tmp_path / "m.safetensors")
    exact = frechet_distance(real.mean, real.cov, fake.mean, fake.cov)
    assert frechet_distance(stored.mean, stored.cov, fake.mean, fake.cov) == pytest.approx(exact, rel=1e-3)


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(UserError, match="two or more"):
        _ = Moments(3).update(np.zeros((1, 3))).cov
    with pytest.raises(UserError, match="3 features cannot take"):
        Moments(3).update(np.zeros((2, 4)))
    with pytest.raises(UserError, match="no moments"):
        Moments.load(tmp_path / "none")
    (tmp_path / "broken").write_bytes(b"xxxxxxxxxxxx")
    with pytest.raises(UserError, match="not a file of moments"):
        Moments.load(tmp_path / "broken")
