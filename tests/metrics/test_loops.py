"""Loop, freeze and motion measures on made sequences: a perfect loop, a frozen clip, drift, and the footage itself."""

import numpy as np
import pytest
import torch

from svgan.errors import UserError
from svgan.metrics.loops import LoopJudge, autocorrelation, gradient_angles, nearest_earlier, norm_change
from svgan.systems.stylevideogan.networks import make_motion
from svgan.training import recipes

FPS, T, K = 25.0, 500, 6


def footage(seed: int, clips: int = 8) -> np.ndarray:
    """Smooth stationary motion [clips, T, K]: underdamped noisy springs."""
    rng = np.random.default_rng(seed)
    x, v, path = np.zeros((clips, K)), np.zeros((clips, K)), []
    for _ in range(T + 200):
        v = 0.9 * v - 0.02 * x + 0.05 * rng.normal(size=(clips, K))
        x = x + v
        path.append(x)
    return np.stack(path[200:], 1)


@pytest.fixture(scope="module")
def judge() -> LoopJudge:
    return LoopJudge(footage(0), FPS)


def loop(clips: np.ndarray, period: int) -> np.ndarray:
    return clips[:, np.arange(T) % period]


def test_a_perfect_loop_repeats_itself(judge):
    found = judge(loop(footage(1), 50))
    assert found.repeat == pytest.approx(1, abs=1e-6)
    assert found.recurrence > 0.9
    assert found.still < 0.1
    assert judge.own.repeat < 0.7


def test_a_frozen_clip_is_still_and_repeats_itself(judge):
    frozen = judge(np.repeat(footage(1)[:, :1], T, axis=1))
    assert (frozen.repeat, frozen.recurrence, frozen.still, frozen.norm_drift) == (1, 1, 1, 0)
    assert frozen.speed == pytest.approx(1, abs=0.2)
    assert frozen.spectrum > 10 * judge.own.spectrum
    trembling = np.repeat(footage(1)[:, :1], T, axis=1) + 1e-6 * np.random.default_rng(0).normal(size=(8, T, K))
    assert judge(trembling).repeat == 1


def test_footage_of_the_same_kind_is_like_the_footage(judge):
    found, own = judge(footage(1)), judge.own
    assert own.recurrence == pytest.approx(0.05, abs=0.002)
    assert found.recurrence == pytest.approx(own.recurrence, abs=0.05)
    assert found.repeat == pytest.approx(own.repeat, abs=0.15)
    assert found.still == pytest.approx(own.still, abs=0.02)
    assert abs(found.norm_drift) < 0.35
    assert found.speed < 3 * own.speed
    assert found.spectrum < 3 * own.spectrum + 0.1


def test_the_footage_itself(judge):
    found = judge(footage(0))
    assert (found.speed, found.spectrum) == pytest.approx((0, 0), abs=1e-9)
    assert (found.repeat, found.recurrence, found.still) == (judge.own.repeat, judge.own.recurrence, judge.own.still)


def test_measures_of_resampled_clips_are_those_of_the_clips_repeated(judge):
    clips, counts = footage(1), np.array([2, 0, 1, 1, 0, 3, 0, 1])
    again = judge(np.repeat(clips, counts, axis=0))
    for name, of in judge.prepared(clips).items():
        assert of(counts) == pytest.approx(getattr(again, name), rel=1e-9)


def test_a_short_loop_beyond_one_second_counts_and_a_tremble_within_does_not():
    """Noise about a point correlates with itself at no lag; a sine of a second and a half does at its period."""
    rng = np.random.default_rng(3)
    r = autocorrelation(rng.normal(size=(400, 3)))
    assert r[0] == pytest.approx(1)
    assert np.abs(r[1:]).max() < 0.35
    t = np.arange(500)[:, None]
    r = autocorrelation(np.concatenate([np.sin(2 * np.pi * t / 37.5), np.cos(2 * np.pi * t / 37.5)], 1))
    assert r[26:].max() == pytest.approx(1, abs=0.01)
    assert r[19] == pytest.approx(-1, abs=0.02)


def test_autocorrelation_equals_its_sums():
    x = np.random.default_rng(4).normal(size=(30, 2))
    centred = x - x.mean(0)
    stretches = [(centred[: 30 - k], centred[k:]) for k in range(16)]
    sums = [2 * np.sum(a * b) / (np.sum(a * a) + np.sum(b * b)) for a, b in stretches]
    np.testing.assert_allclose(autocorrelation(x), sums, rtol=1e-9)


def test_nearest_earlier_codes_are_at_least_so_much_older():
    x = np.array([0.0, 5, 9, 0.5, 5.25])[:, None]
    np.testing.assert_allclose(nearest_earlier(x, 2), [9, 0.5, 0.25])
    np.testing.assert_allclose(nearest_earlier(x, 4), [5.25])


def test_drift_of_norms(judge):
    growing = footage(1) * np.linspace(1, 4, T)[None, :, None]
    assert judge(growing).norm_drift > 1
    assert norm_change(np.linspace(0, 1, 100)[:, None]) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("factor", [2, 3])
def test_slow_motion_is_far_in_speed_and_spectrum(judge, factor):
    slow = judge(footage(1)[:, np.arange(T) // factor])
    assert slow.speed > 3 * judge.own.speed
    assert slow.still > 0.4


def test_shuffled_frames_are_far(judge):
    order = np.random.default_rng(0).permutation(T)
    shuffled = judge(footage(1)[:, order])
    assert shuffled.speed > 2
    assert shuffled.spectrum > 2


def test_phi_is_nought_for_a_motion_that_ignores_its_noise():
    torch.manual_seed(0)
    motion = make_motion(recipes.make("tiny", components=4, width=8, trunk=(8,)), 4)
    phi = gradient_angles(motion, 12, 16, torch.Generator().manual_seed(0))
    assert phi.shape == (16,)
    assert 0.05 < phi.mean() < np.pi / 2
    np.testing.assert_array_equal(gradient_angles(motion, 12, 16, torch.Generator().manual_seed(0)), phi)
    with torch.no_grad():
        motion.cells.weight_ih_l0.zero_()
    assert gradient_angles(motion, 12, 16, torch.Generator().manual_seed(0)).max() < 1e-6


def test_bad_input_is_one_line(judge):
    with pytest.raises(UserError, match=r"of 3 s or more \(75 frames\); embed longer"):
        LoopJudge(np.zeros((4, 60, 2)), FPS)
    with pytest.raises(UserError, match="the footage's are"):
        judge(np.zeros((2, T, K + 1)))
    with pytest.raises(UserError, match="diverged"):
        judge(footage(1) * np.nan)
