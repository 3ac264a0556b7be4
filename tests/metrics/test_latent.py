"""The latent distance must put motion that is wrong in a known way behind held-out real windows."""

import math

import numpy as np
import pytest
import torch

from svgan.errors import UserError
from svgan.metrics.latent import LatentDistance, lags, latent_frechet_distance

T, K = 25, 20


def walk(frames: int, width: int, seed: int) -> torch.Tensor:
    """A long smooth stationary motion [frames, width], smaller in later coordinates: an underdamped noisy spring."""
    rng = np.random.default_rng(seed)
    x, v, path = np.zeros(width), np.zeros(width), []
    for _ in range(frames + 200):
        v = 0.9 * v - 0.02 * x + 0.05 * rng.normal(size=width)
        x = x + v
        path.append(x)
    return torch.from_numpy(np.stack(path[200:]) / (1 + np.arange(width))).float()


def windows(path: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    starts = np.random.default_rng(seed).integers(0, len(path) - T, count)
    return torch.stack([path[s : s + T] for s in starts])


@pytest.fixture(scope="module")
def judge() -> LatentDistance:
    return LatentDistance(windows(walk(4000, K, 0), 256, 1))


@pytest.fixture(scope="module")
def held_out() -> torch.Tensor:
    return windows(walk(4000, K, 2), 256, 3)


def loop(clips: torch.Tensor, period: int) -> torch.Tensor:
    return clips[:, torch.arange(T) % period]


def there_and_back(clips: torch.Tensor) -> torch.Tensor:
    return torch.cat([clips[:, : T // 2 + 1], clips[:, : T // 2].flip(1)], 1)


SPOILT = {
    "frozen": lambda clips: clips[:, :1].expand_as(clips),
    "shuffled in time": lambda clips: torch.stack([c[torch.randperm(T)] for c in clips]),
    "looped every 8": lambda clips: loop(clips, 8),
    "looped every 10": lambda clips: loop(clips, 10),
    "there and back": there_and_back,
    "half speed": lambda clips: clips[:, torch.arange(T) // 2],
    "shifted": lambda clips: clips + clips.std((0, 1)),
    "collapsed to one clip": lambda clips: clips[:1].expand_as(clips),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_spoilt_motion_is_worse_than_held_out(judge, held_out, kind):
    torch.manual_seed(0)
    assert judge(SPOILT[kind](held_out)) > 2 * judge(held_out)


def test_the_same_windows_have_no_distance_and_more_noise_is_worse(judge, held_out):
    assert latent_frechet_distance(held_out, held_out) == pytest.approx(0, abs=1e-6)
    distances = [judge(held_out + level * torch.randn_like(held_out)) for level in (0, 0.02, 0.1, 0.5)]
    assert distances == sorted(distances)


def test_a_shift_by_every_spread_costs_one_for_the_codes():
    clips = windows(walk(4000, K, 4), 64, 5)
    shifted = clips + clips.flatten(0, 1).std(0)
    assert latent_frechet_distance(clips, shifted) == pytest.approx(1 / len(lags(T)), rel=1e-3)


def test_wide_spaces_go_through_principal_axes():
    mixing = torch.linalg.qr(torch.randn(300, 300, generator=torch.Generator().manual_seed(0))).Q[:K]
    real, other = windows(walk(3000, K, 6), 128, 7), windows(walk(3000, K, 8), 128, 9)
    narrow = latent_frechet_distance(real, other, coordinates=K)
    assert latent_frechet_distance(real @ mixing, other @ mixing, coordinates=K) == pytest.approx(narrow, rel=0.1)


def test_nan_and_wrong_shapes(judge, held_out):
    assert math.isnan(judge(held_out * math.nan))
    with pytest.raises(UserError, match="generated windows"):
        judge(held_out[:, :-1])
    with pytest.raises(UserError, match="real windows"):
        LatentDistance(torch.zeros(1, T, K))
