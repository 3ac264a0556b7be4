"""SSIM against its definition, and `svgan evaluate --domain` on a second and a half of real footage."""

import json

import numpy as np
import pytest
from video_files import talking_face, write_video

from svgan import cli
from svgan.metrics.domain_report import ssim


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, of one 11 x 11 window of grey pictures."""
    at = np.arange(11) - 5
    weight = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
    var_x, var_y = (weight * (x - mean_x) ** 2).sum(), (weight * (y - mean_y) ** 2).sum()
    both = (weight * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def grey(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture[None, :, :, None], 3, axis=3).astype(np.uint8)


def test_ssim_of_one_window_is_its_definition():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (2, 11, 11))
    assert ssim(grey(x), grey(y)) == pytest.approx(by_definition(x, y), rel=1e-9)


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise():
    rng = np.random.default_rng(1)
    picture = (127 + 90 * np.sin(np.arange(32)[:, None] / 3) * np.cos(np.arange(32) / 4)).round()
    noisy = [(picture + level * rng.normal(size=(32, 32))).clip(0, 255) for level in (5, 20, 60)]
    found = [ssim(grey(picture), grey(other)) for other in (picture, *noisy)]
    assert found[0] == pytest.approx(1, abs=1e-9)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.7


def test_a_domains_reconstructions_are_measured(tmp_path, capsys):
    footage = write_video(tmp_path / "short.mkv", talking_face(0, 40))
    assert cli.run(["evaluate", "--domain", "default", "--footage", str(footage), "--device", "cpu"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    assert figures["psnr_frame"] > 20
    assert 0.6 < figures["ssim"] < 1
    assert figures["identity"] < 0.6
