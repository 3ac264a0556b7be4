"""Embedding real footage (a second of it) with a small random domain."""

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from video_files import write_video

from svgan import assets, embed
from svgan.errors import UserError
from svgan.images import aligned
from svgan.images.align import read_frames
from svgan.images.domain import Domain
from svgan.latents.shards import open_latents

FRAMES = 14


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """good, other: a second of footage each; two: two faces; none: no face; cut: truncated; fast: 50 fps."""
    if shutil.which("npm") is None:
        pytest.skip("the footage comes through npm, which is not installed")
    folder = tmp_path_factory.mktemp("footage")
    frames = list(islice(read_frames(assets.path("talking-face")), 2 * FRAMES + 1))
    face = frames[:FRAMES]
    noise = np.random.default_rng(0).integers(0, 255, (6, 120, 160, 3), np.uint8)
    videos = {
        "good": write_video(folder / "good.mkv", face),
        "other": write_video(folder / "other.mkv", frames[FRAMES:]),
        "two": write_video(folder / "two.mkv", [np.concatenate([f, f], 1) for f in face[:3]]),
        "none": write_video(folder / "none.mkv", list(noise)),
        "cut": write_video(folder / "cut.mkv", frames * 2),
        "fast": write_video(folder / "fast.mkv", face[:3], fps=50),
    }
    data = videos["cut"].read_bytes()
    videos["cut"].write_bytes(data[: len(data) // 2])
    return videos


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache but for the landmark predictor."""
    predictor = assets.path("landmarks68").parent
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / predictor.name).symlink_to(predictor)
    monkeypatch.setenv("SVGAN_CACHE", str(folder))
    return folder


class Notes(embed.Watcher):
    def __init__(self, interrupt_in: str = ""):
        self.stages: set[tuple[str, str]] = set()
        self.interrupt_in = interrupt_in

    def stage(self, video: str, stage: str, done: int, total: int) -> None:
        self.stages.add((video, stage))
        assert done <= total
        if video == self.interrupt_in:
            raise KeyboardInterrupt


def test_failing_videos_are_told_and_the_rest_goes_on(
    footage: dict[str, Path], random_domain: Path, cache: Path, tmp_path: Path
):
    domain, notes = Domain.load(random_domain), Notes()
    videos = [footage[name] for name in ("cut", "good", "two", "none", "fast")] + [tmp_path / "absent.mkv"]
    result = embed.embed(videos, domain, tmp_path / "out", watcher=notes)
    for name, words in {
        "cut.mkv": "truncated",
        "two.mkv": "two or more faces in 3 of 3 frames",
        "none.mkv": "a face in only 0 of 6 frames",
        "fast.mkv": "50 frames a second, the set has 25",
        "absent.mkv": "no such file",
    }.items():
        assert words in result.failures[name]
        assert "\n" not in result.failures[name]

    latents = open_latents(tmp_path / "out", domain=domain.digest)
    assert [v["name"] for v in latents.manifest.videos] == ["good.mkv"]
    assert latents.codes.shape == (FRAMES, 6, 8)
    crops = aligned.align_cached(footage["good"], embed.crop_size(domain))
    assert crops.crops.shape == (FRAMES, 128, 128, 3)
    assert crops.fps == 25
    np.testing.assert_allclose(latents.codes, domain.encode(crops.crops), rtol=2e-3, atol=1e-4)


def test_a_killed_run_goes_on_where_it_was(footage: dict[str, Path], random_domain: Path, cache: Path, tmp_path: Path):
    domain, videos = Domain.load(random_domain), [footage["good"], footage["other"]]
    with pytest.raises(KeyboardInterrupt):
        embed.embed(videos, domain, tmp_path / "out", watcher=Notes(interrupt_in="other.mkv"))
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]

    notes = Notes()
    embed.embed(videos, domain, tmp_path / "out", watcher=notes)
    assert {video for video, _ in notes.stages} == {"other.mkv"}
    assert open_latents(tmp_path / "out").manifest.rows == 2 * FRAMES + 1

    broken = next((cache / "codes").glob("*.npz"))
    broken.write_bytes(b"PK")
    notes = Notes()
    embed.embed(videos, domain, tmp_path / "again", watcher=notes)
    assert {stage for _, stage in notes.stages} == {"codes"}  # aligned crops were still there
    assert open_latents(tmp_path / "again").digest == open_latents(tmp_path / "out").digest


def test_nothing_is_written_when_all_fail(footage: dict[str, Path], random_domain: Path, cache: Path, tmp_path: Path):
    domain = Domain.load(random_domain)
    with pytest.raises(UserError, match=r"no latents written: .*none.mkv: a face in only 0"):
        embed.embed([footage["none"]], domain, tmp_path / "out")
    with pytest.raises(UserError, match="two videos of this name"):
        embed.embed([footage["good"]] * 2, domain, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]
