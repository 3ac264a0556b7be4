"""SSIM against its definition, figures with their intervals, and `svgan evaluate --domain` on real footage."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from video_files import talking_face, write_video

from svgan import cli
from svgan.images.domain import Domain
from svgan.metrics import domain_report
from svgan.metrics.domain_report import Compared, measure_footage, ssim
from svgan.metrics.identity import Faces


@pytest.fixture(scope="module")
def minute(tmp_path_factory) -> Path:
    """60 frames, one a second: the last six are held out."""
    return write_video(tmp_path_factory.mktemp("footage") / "minute.mkv", talking_face(0, 60), fps=1)


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


def made(seconds: int, fps: int = 25) -> Compared:
    """Frames whose figures are those of their second, but for a little."""
    rng = np.random.default_rng(0)
    second = np.arange(seconds * fps) // fps

    def slow(low: float, high: float, shape: tuple[int, ...] = ()) -> np.ndarray:
        return rng.uniform(low, high, (seconds, *shape))[second] + 1e-6 * rng.normal(size=(len(second), *shape))

    pairs = {name: slow(0, 1, (1,)) + slow(0, 0.3, (2,)) for name in ("mouth", "eyes", "yaw")}
    pixels = np.full(len(second), 100.0)
    figures = {"error": slow(20, 60), "face_error": 100 * slow(5, 9), "face_pixels": pixels, "ssim": slow(0.5, 0.9)}
    return Compared(second=second, **figures, distance=slow(0.2, 0.4), **pairs, seen=np.ones(len(second), bool))


def test_every_figure_has_an_interval_of_whole_seconds():
    """As wide as the mean of so many seconds' is: of so many frames it would be a fifth of that."""
    compared = made(30)
    found = compared.intervals()
    assert set(found) == {"psnr_face", "psnr_frame", "ssim", "identity", "mouth", "eyes", "yaw", "faces"}
    whole = asdict(compared.figures())
    for name, one in found.items():
        assert one.value == whole[name]
        assert one.low <= one.value <= one.high, name
        assert one.low < one.high or name == "faces", name
    assert found["yaw"].high <= 1
    means = compared.ssim.reshape(30, 25).mean(1)
    assert found["ssim"].high - found["ssim"].low == pytest.approx(2 * 1.96 * means.std() / np.sqrt(30), rel=0.2)


@pytest.mark.filterwarnings("error")
def test_what_has_no_interval_has_no_ends():
    for one in made(1).intervals().values():
        assert np.isfinite(one.value)
        assert np.isnan([one.low, one.high]).all()
    faceless = replace(made(4), distance=np.full(100, np.nan), mouth=np.full((100, 2), np.nan))
    found = faceless.intervals()
    for name in ("identity", "mouth"):
        assert np.isnan([found[name].value, found[name].low, found[name].high]).all()
    assert np.isfinite(found["eyes"].high)


def test_some_frames_at_a_time_give_the_figures_of_all(minute, random_domain, monkeypatch):
    class Reader:
        def read(self, frames: np.ndarray) -> Faces:
            points = np.stack([np.resize(frame[::4, ::4].astype(np.float32), (68, 2)) for frame in frames])
            return Faces(points, points.reshape(len(frames), -1)[:, :128])

    at_once = []
    cut_out = domain_report.align_video

    def watched(*arguments, rows, **named):
        at_once.append(len(rows))
        return cut_out(*arguments, rows=rows, **named)

    monkeypatch.setattr(domain_report, "align_video", watched)
    domain = Domain.load(random_domain)
    whole = measure_footage(domain, minute, 128, Reader(), every=1, shown=3)
    monkeypatch.setattr(domain_report, "STEP", 4)
    parts = measure_footage(domain, minute, 128, Reader(), every=1, shown=3)
    assert at_once == [6, 4, 2]
    for name, values in vars(whole[0]).items():
        # A picture rendered in a smaller batch may differ in a byte by one, of some 100.
        np.testing.assert_allclose(vars(parts[0])[name], values, rtol=0.02, atol=0.02, err_msg=name)
    for one, other in zip(whole[1:], parts[1:], strict=True):
        assert one.shape == (3, 16, 16, 3)
        assert np.abs(one.astype(int) - other).max() <= 1


def test_a_domains_reconstructions_are_measured(minute, capsys):
    assert cli.run(["evaluate", "--domain", "default", "--footage", str(minute), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    told = json.loads(said.splitlines()[-1])
    figures = told["figures"]
    assert told["frames"] == 2
    assert figures["psnr_frame"]["low"] > 20
    assert 0.6 < figures["ssim"]["low"] <= figures["ssim"]["value"] <= figures["ssim"]["high"] < 1
    assert figures["identity"]["high"] < 0.6
    assert figures["yaw"]["value"] is figures["yaw"]["high"] is None, "two frames have no correlation"
    assert f"{figures['ssim']['low']:.4g} to {figures['ssim']['high']:.4g}" in said


def test_footage_too_short_to_hold_a_frame_out_is_one_line(tmp_path, capsys):
    short = write_video(tmp_path / "short.mkv", talking_face(0, 5))
    assert cli.run(["evaluate", "--domain", "default", "--footage", str(short), "--device", "cpu"]) == 2
    assert "short.mkv: the last tenth is measured, and 5 usable frames have none; give 10" in capsys.readouterr().err
