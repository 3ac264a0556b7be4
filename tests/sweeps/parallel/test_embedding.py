"""Embedding by Ray: the set of one process in every bit, also when the driver was killed and other workers went on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from growing_cluster import growing_cluster
from video_files import talking_face, write_video

from svgan.assets import cache
from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.shards import open_latents, open_origins
from svgan.pipelines import embed as embed_steps
from sweeps.parallel import embedding, encoder_pool
from sweeps.ray_runtime import internals, resources

ROOT = Path(resources.__file__).parents[2]

FRAMES, VIDEOS = 8, 4
ALONE = os.environ | {"RAY_ADDRESS": "local"}  # and not on a cluster of another test beside this one
PRETENDED_GPU = "-1"  # of CUDA_VISIBLE_DEVICES: Ray counts one GPU, and CUDA finds none, so that encoders use the CPU


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

    from sweeps.ray_runtime import session

    out, domain = tmp_path / "out", Domain.load(random_domain)
    command = ["-m", "sweeps", "embed", *map(str, videos), "--out", str(out), "--domain", str(random_domain)]
    driver = subprocess.Popen([sys.executable, *command], cwd=tmp_path, env=ALONE, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 480
    while not any("codes-" in name for name in kept(out)):
        assert driver.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not out.exists()
    before = kept(out)

    monkeypatch.setattr(embedding.storage, "remove", lambda where: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", PRETENDED_GPU)
    session.start(num_cpus=1, num_gpus=1, object_store_memory=100 * 2**20)
    try:
        made = embedding.embed(videos, domain, str(out))
    finally:
        session.shut_down()
    after = kept(out)
    assert 1 <= len(before) < len(after) == 2 * VIDEOS + 1
    assert {name: after[name] for name in before} == before

    one = embed_steps.embed(videos, domain, tmp_path / "one")
    assert made.manifest.digest == one.manifest.digest
    assert made.manifest.frames == one.manifest.frames
    assert made.failures.keys() == one.failures.keys() == {"none.mkv"}
    latents = open_latents(out)
    assert latents.manifest.rows == FRAMES * VIDEOS
    assert open_origins(latents).keys() == {path.name for path in videos[:-1]}


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which the head of a growing cluster is the user's own machine."""
    seen = {"SVGAN_CACHE": str(cache.cache_folder()), "CUDA_VISIBLE_DEVICES": PRETENDED_GPU}
    with growing_cluster(tmp_path, **seen) as environment:
        yield environment


@pytest.mark.slow
def test_a_cluster_that_grows_from_nothing_is_used_and_a_lost_encoder_replaced(
    videos: list[Path], random_domain: Path, tmp_path: Path, growing: dict[str, str]
):
    out, said = tmp_path / "out", tmp_path / "said"
    command = ["-m", "sweeps", "embed", *map(str, videos), "--out", str(out), "--domain", str(random_domain)]
    with said.open("wb") as file:
        driver = subprocess.Popen([sys.executable, *command], cwd=tmp_path, env=growing, stdout=file, stderr=file)
    until, hurt = time.monotonic() + 560, False
    while driver.poll() is None:
        assert time.monotonic() < until, said.read_text()
        for process in [] if hurt else psutil.process_iter(["cmdline", "environ"]):
            there = (process.info["environ"] or {}).get("HOME") == str(tmp_path)
            if there and "ray::Encoder" in " ".join(process.info["cmdline"] or []):
                process.kill()  # while it reads its domain: as long as that takes, it cannot be too late
                hurt = True
        time.sleep(0.1)
    told = said.read_text()
    assert driver.returncode == 0, told
    assert hurt
    assert "waiting for a node" in told
    assert "waiting for a GPU" in told
    assert "CPUs make the codes until" not in told
    one = embed_steps.embed(videos, Domain.load(random_domain), tmp_path / "one")
    assert open_latents(out).manifest.digest == one.manifest.digest


@pytest.mark.slow
def test_the_command_removes_what_it_kept(videos: list[Path], random_domain: Path, tmp_path: Path):
    out = tmp_path / "out"
    command = ["-m", "sweeps", "embed", str(videos[0]), "--out", str(out), "--domain", str(random_domain)]
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=ALONE, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert f"{FRAMES} frames of 1 video" in done.stdout
    assert "0.mkv: 8 of 8 frames in 1 clip" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_what_a_worker_wrote_where_the_driver_sees_nothing_is_told(tmp_path: Path):
    with pytest.raises(UserError, match=r"codes-0\.npz: not here, though a worker wrote it; give an --out that all"):
        embedding._load(str(tmp_path / "codes-0.npz"))
    (tmp_path / "codes-0.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"codes-0\.npz: broken"):
        embedding._load(str(tmp_path / "codes-0.npz"))


def test_a_cluster_whose_nodes_are_yet_to_come_is_asked_for_all_of_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(internals, "node_groups", list)
    monkeypatch.setattr(resources, "BOOTSTRAP", ROOT / "cluster" / "gpu.yaml")
    head = {"CPU": 0.0, resources.HEAD: 1.0}
    coming, _ = resources.could_come([head])
    there = resources.Resources(resources.CLUSTER, (head,), coming)
    assert encoder_pool.most_stretches_at_once(there) == 2 * 8 * 4
    gpus = there.workers(0, 1)
    assert [encoder_pool.encoders_wanted(gpus, stretches) for stretches in (0, 1, 5, 1000)] == [0, 1, 2, 8]


def test_codes_wait_for_a_gpu_no_longer_than_the_patience(
    random_domain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    there = resources.Resources(resources.CLUSTER, ({"CPU": 4.0},), ({"CPU": 4.0, "GPU": 1.0},) * 2)
    monkeypatch.setattr(resources, "detect", lambda: there)
    made, asked = encoder_pool.EncoderPool(Domain.load(random_domain)), []

    def actor(*arguments: str) -> SimpleNamespace:
        asked.append(arguments)
        return SimpleNamespace(load=SimpleNamespace(remote=object))

    made._encoder, made._remove = SimpleNamespace(remote=actor), made.encoders.remove  # no Ray is started
    monkeypatch.setattr(encoder_pool, "LOOK_SECONDS", 1e9)
    made.update(codes=5)
    assert len(asked) == 2
    assert made.has_room_for("faces")
    assert not made.has_room_for("codes")
    assert capsys.readouterr().out == "waiting for a GPU, 15 min at most; then CPUs make the codes\n"
    monkeypatch.setattr(encoder_pool, "GPU_SECONDS", -1.0)
    made.update(codes=5)
    assert made.has_room_for("codes")
    assert "CPUs make the codes until one comes" in capsys.readouterr().out
    made.update(codes=0)
    assert made.has_room_for("codes"), "the next video's codes do not wait again"
    monkeypatch.setattr(encoder_pool, "GPU_SECONDS", 900.0)
    made.update(codes=5)
    made.encoders[0].loading = None
    taken = 0
    while made.has_room_for("codes"):
        made.running[taken] = encoder_pool.Stretch(video=None, step="codes", number=taken, crops=object())
        taken += 1
    assert taken == 4 + 2, "crops are kept in memory: as many as CPUs that are there and an encoder's two"
    assert made.has_room_for("faces")


def test_a_cluster_without_cpus_that_could_get_none_is_refused(random_domain: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        resources, "detect", lambda: resources.Resources(resources.CLUSTER, ({"CPU": 0.0, "GPU": 1.0},), growth="none")
    )
    with pytest.raises(UserError, match=r"the cluster has no CPU to work on \(none\)"):
        encoder_pool.EncoderPool(Domain.load(random_domain))


def test_a_video_has_the_name_that_was_given(random_domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As in `svgan embed`, whose set is to be the same; a link leads to a file of another name."""
    (tmp_path / "file.mp4").write_text("no video")
    (tmp_path / "link.mp4").symlink_to("file.mp4")
    monkeypatch.setattr(embedding, "_work", lambda *_: None)
    with pytest.raises(UserError, match=r"link\.mp4: cannot be decoded"):
        embedding.embed([tmp_path / "link.mp4"], Domain.load(random_domain), str(tmp_path / "out"))


def test_what_cannot_be_embedded_is_told_before_ray_starts(videos: list[Path], random_domain: Path, tmp_path: Path):
    domain = Domain.load(random_domain)
    embed_steps.embed([videos[0]], domain, tmp_path / "taken")
    for given, out, words in (
        ([videos[0]] * 2, "new", "two videos of this name"),
        ([videos[0]], "taken", "already holds a manifest.json"),
    ):
        with pytest.raises(UserError, match=words):
            embedding.embed(given, domain, str(tmp_path / out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]
