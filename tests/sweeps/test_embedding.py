"""Embedding by Ray: the set of one process in every bit, also when the driver was killed and other workers went on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from video_files import talking_face, write_video

from svgan import embed as alone
from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.shards import open_latents, open_origins

FRAMES, VIDEOS = 8, 4


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four pieces of footage, and one without a face."""
    folder = tmp_path_factory.mktemp("videos")
    frames = talking_face(0, FRAMES * VIDEOS)
    made = [write_video(folder / f"{k}.mkv", frames[k * FRAMES : (k + 1) * FRAMES]) for k in range(VIDEOS)]
    return [*made, write_video(folder / "none.mkv", [np.zeros_like(frames[0])] * 3)]


def kept(out: Path) -> dict[str, int]:
    """The finished stretches, and when each was written."""
    files = Path(f"{out}.embedding").rglob("[!.]*.npz")
    return {str(file): file.stat().st_mtime_ns for file in files}


@pytest.mark.slow
def test_a_killed_driver_loses_nothing_and_the_set_is_one_processes(
    videos: list[Path], random_domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import ray

    from sweeps import embedding, joining

    out, domain = tmp_path / "out", Domain.load(random_domain)
    command = ["-m", "sweeps", "embed", *map(str, videos), "--out", str(out), "--domain", str(random_domain)]
    driver = subprocess.Popen([sys.executable, *command], cwd=tmp_path, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 480
    while not any("codes-" in name for name in kept(out)):
        assert driver.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not out.exists()
    before = kept(out)

    monkeypatch.setattr(embedding.shelf, "remove", lambda where: None)
    joining.start(num_cpus=1, num_gpus=1, object_store_memory=100 * 2**20)  # no real GPU: the actor takes the CPU
    try:
        made = embedding.embed(videos, domain, str(out))
    finally:
        ray.shutdown()
    after = kept(out)
    assert 1 <= len(before) < len(after) == 2 * VIDEOS + 1
    assert {name: after[name] for name in before} == before

    one = alone.embed(videos, domain, tmp_path / "one")
    assert made.manifest.digest == one.manifest.digest
    assert made.manifest.frames == one.manifest.frames
    assert made.failures.keys() == one.failures.keys() == {"none.mkv"}
    latents = open_latents(out)
    assert latents.manifest.rows == FRAMES * VIDEOS
    assert open_origins(latents).keys() == {path.name for path in videos[:-1]}


@pytest.mark.slow
def test_the_command_removes_what_it_kept(videos: list[Path], random_domain: Path, tmp_path: Path):
    out = tmp_path / "out"
    command = ["-m", "sweeps", "embed", str(videos[0]), "--out", str(out), "--domain", str(random_domain)]
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"{FRAMES} frames of 1 videos" in done.stdout
    assert "0.mkv: 8 of 8 frames in 1 clip" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_video_has_the_name_that_was_given(random_domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As in `svgan embed`, whose set is to be the same; a link leads to a file of another name."""
    from sweeps import embedding

    (tmp_path / "file.mp4").write_text("no video")
    (tmp_path / "link.mp4").symlink_to("file.mp4")
    monkeypatch.setattr(embedding, "_work", lambda *_: None)
    with pytest.raises(UserError, match=r"link\.mp4: cannot be decoded"):
        embedding.embed([tmp_path / "link.mp4"], Domain.load(random_domain), str(tmp_path / "out"))


def test_what_cannot_be_embedded_is_told_before_ray_starts(videos: list[Path], random_domain: Path, tmp_path: Path):
    from sweeps import embedding

    domain = Domain.load(random_domain)
    alone.embed([videos[0]], domain, tmp_path / "taken")
    for given, out, words in (
        ([videos[0]] * 2, "new", "two videos of this name"),
        ([videos[0]], "taken", "already holds a manifest.json"),
    ):
        with pytest.raises(UserError, match=words):
            embedding.embed(given, domain, str(tmp_path / out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]
