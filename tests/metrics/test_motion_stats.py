"""Still runs, spread and correlation on sequences whose answer is known."""

import numpy as np
import pytest

from svgan.errors import UserError
from svgan.metrics.motion_stats import correlation, spread_ratio, step_sizes, still_run, still_threshold


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
