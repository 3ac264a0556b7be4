"""Still runs, spread and correlation on sequences whose answer is known."""

import numpy as np
import pytest

from svgan.errors import UserError
from svgan.metrics.motion_stats import (
    correlation,
    motion_power,
    spectrum_distance,
    speed_distance,
    spread_ratio,
    step_sizes,
    still_run,
    still_threshold,
)


def ramp_with_pause(pause: int) -> np.ndarray:
    return np.concatenate([np.arange(30.0), np.full(pause, 29.0), 29 + np.arange(1.0, 20)])


def test_longest_pause_in_seconds():
    assert still_run(ramp_with_pause(50), fps=25, threshold=0.1) == pytest.approx(50 / 25)
    assert still_run(np.arange(40.0), fps=25, threshold=0.1) == 0
    assert still_run(np.zeros((26, 4, 4, 3), np.uint8), fps=25, threshold=0) == 1


def test_steps_of_uint8_frames_do_not_wrap():
    frames = np.stack([np.full((2, 2, 3), v, np.uint8) for v in (10, 0, 255)])
    np.testing.assert_allclose(step_sizes(frames), [10, 255])


def test_threshold_follows_the_footage():
    assert still_threshold(np.arange(0.0, 100, 2)) == pytest.approx(0.2)


def test_spread_and_correlation_leave_missing_frames_out():
    a = np.sin(np.arange(50.0))
    holed = np.where(np.arange(50) % 7 == 0, np.nan, a)
    assert correlation(a, 3 * holed + 1) == pytest.approx(1)
    assert correlation(-a, holed) == pytest.approx(-1)
    assert np.isnan(correlation(a, np.full(50, np.nan)))
    assert spread_ratio(0.5 * holed, holed) == pytest.approx(0.5)


def test_one_frame_has_no_motion():
    with pytest.raises(UserError, match="two or more"):
        step_sizes(np.zeros((1, 3)))


def test_spectra_of_sines_lie_their_frequencies_apart():
    t = np.arange(250)[None, :, None] / 25
    one, three = np.sin(2 * np.pi * t), np.sin(2 * np.pi * 3 * t)
    frequencies, power = motion_power(one, 25)
    assert frequencies[power[0].argmax()] == pytest.approx(1, abs=0.1)
    assert spectrum_distance(three, one, 25) == pytest.approx(2, abs=0.05)
    assert spectrum_distance(np.zeros((1, 250, 1)), one, 25) == pytest.approx(1, abs=0.05)


def test_speeds_are_compared_in_the_footages_median():
    footage = np.cumsum(np.random.default_rng(0).normal(size=(3, 100, 2)), 1)
    assert speed_distance(footage, footage) == 0
    twice = speed_distance(2 * footage, footage)
    assert twice == pytest.approx(
        np.mean(np.linalg.norm(np.diff(footage, axis=1), axis=2))
        / np.median(np.linalg.norm(np.diff(footage, axis=1), axis=2)),
        rel=1e-5,
    )
