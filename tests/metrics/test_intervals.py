"""Intervals that cover, comparisons that decide, and an extrapolation that takes the bias away: on made Gaussians."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from svgan.errors import UserError
from svgan.metrics.frechet import FrechetTo
from svgan.metrics.intervals import Comparison, bootstrap, endless, paired, resamples, weighted
from svgan.reports.evaluation import as_json, better

FEATURES, SHIFT = 8, 0.6
TRUTH = FEATURES * SHIFT**2  # of endless samples: the spreads are equal
TO = FrechetTo.of_moments(np.zeros(FEATURES), np.eye(FEATURES))


def statistic(n: int, seed: int, shift: float = SHIFT):
    return TO.prepared(np.random.default_rng(seed).normal(size=(n, FEATURES)) + shift)


def test_an_interval_covers_what_other_seeds_give():
    """Of 95 % intervals for the mean of the figure at this many samples, 85 to 100 of 100 hold it."""
    at = np.mean([statistic(40, seed)(np.ones(40)) for seed in range(2000, 3000)])
    found = [bootstrap(statistic(40, seed), 40, draws=100) for seed in range(100)]
    covered = sum(one.low <= at <= one.high for one in found)
    assert 85 <= covered <= 100
    assert all(one.low < one.value < one.high for one in found)


def test_an_interval_is_the_same_every_time_and_narrows():
    few, many = bootstrap(statistic(40, 1), 40), bootstrap(statistic(640, 1), 640)
    assert bootstrap(statistic(40, 1), 40) == few
    assert (many.high - many.low) < 0.5 * (few.high - few.low)


def test_a_resample_counts_as_many_as_there_are():
    for counts in resamples(7, 5, 0):
        assert counts.sum() == 7
    with pytest.raises(UserError, match="two or more clips"):
        list(resamples(1))


def test_paired_samples_decide_what_unpaired_ones_do_not():
    """The same draws, moved by a twentieth: their difference is far surer than either figure."""
    near, far = statistic(60, 3, 0.6), statistic(60, 3, 0.65)
    found = paired(near, far, 60)
    assert found.first_is_better
    assert found.sure > 0.99
    assert found.low < found.difference < found.high < 0
    alone = bootstrap(near, 60)
    assert alone.high > alone.value - found.difference, "alone the intervals overlap"
    back = paired(far, near, 60)
    assert not back.first_is_better
    assert back.sure == found.sure


def test_equal_models_are_a_toss():
    same = statistic(30, 4)
    found = paired(same, same, 30)
    assert (found.difference, found.sure) == (0, 0.5)
    different = [paired(statistic(30, 2 * k), statistic(30, 2 * k + 1), 30, draws=60).sure for k in range(20)]
    assert np.mean([sure > 0.975 for sure in different]) < 0.3


def test_the_value_for_endless_samples_is_nearer_the_truth():
    """Plain figures of 60 samples of 8 features lie above it; the line in 1/N takes nearly all of that away."""
    plain = np.mean([statistic(60, seed)(np.ones(60)) for seed in range(40)]) - TRUTH
    found = np.mean([endless(statistic(60, seed), 60) for seed in range(40)]) - TRUTH
    assert plain > 0.2
    assert abs(found) < 0.35 * plain
    with pytest.raises(UserError, match="16 clips or more"):
        endless(statistic(10, 0), 10)


def test_a_line_is_extrapolated_exactly():
    assert endless(lambda counts: 3 + 50 / counts.sum(), 100) == pytest.approx(3, abs=1e-9)


def test_a_figure_that_no_clip_has_decides_nothing_and_is_null_in_json():
    found = Comparison(math.nan, math.nan, math.nan, math.nan)
    assert better(found) is None
    told = {"against": {"identity": asdict(found)}, "figures": [1.5, math.inf, None, "x"]}
    assert json.loads(as_json(told))["figures"] == [1.5, None, None, "x"]
    assert json.loads(as_json(told))["against"]["identity"]["difference"] is None
    assert better(Comparison(-1.0, -2.0, -0.5, 0.99)) == "this"


@pytest.mark.filterwarnings("error")
def test_resamples_without_a_number_are_left_out():
    """A face in one clip of the second's thirty, as identity has it: a third of the resamples lack that clip."""
    n, one = 30, np.full(30, np.nan)
    one[0] = 2.0
    found = paired(weighted(np.linspace(0, 1, n)), weighted(one), n)
    assert found.difference == pytest.approx(-1.5)
    assert found.low < found.high < 0
    assert found.sure == 1, "all resamples that have the clip say so"
    none = paired(weighted(np.linspace(0, 1, n)), weighted(np.full(n, np.nan)), n)
    assert np.isnan([none.low, none.high]).all()
    assert (better(none), none.sure) == (None, 0.5)
