"""Embedding real footage (a second of it) with a small random domain."""

import shutil
import wave
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from video_files import talking_face, write_video

from svgan import cli
from svgan.assets import cache as asset_cache
from svgan.errors import UserError
from svgan.faces import aligned_video
from svgan.faces.alignment import to_crop
from svgan.faces.crops import shrink
from svgan.faces.original_frames import crop_size, original_frames
from svgan.images.domain import Domain
from svgan.io.video_reader import frame_rate, read_frames
from svgan.latents.recorded_frames import open_recorded
from svgan.latents.shards import open_latents, open_origins
from svgan.pipelines import embed
from svgan.runs.folder import plan_run
from svgan.runs.training import train_run
from svgan.training import registry
from svgan.training.data import BESIDE, Material
from svgan.training.reporter import NullReporter

FRAMES = 14


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """good, other: a second of footage each; two: two faces; none: no face; cut: truncated; fast: 50 fps."""
    folder = tmp_path_factory.mktemp("footage")
    frames = talking_face(0, 2 * FRAMES + 1)
    face = frames[:FRAMES]
    noise = np.random.default_rng(0).integers(0, 255, (6, 120, 160, 3), np.uint8)
    videos = {
        "good": write_video(folder / "good.mkv", face),
        "other": write_video(folder / "other.mkv", frames[FRAMES:]),
        "two": write_video(folder / "two.mkv", [np.concatenate([f, f], 1) for f in face[:3]]),
        "none": write_video(folder / "none.mkv", list(noise)),
        "cut": write_video(folder / "cut.mkv", frames),
        "fast": write_video(folder / "fast.mkv", face[:3], fps=50),
    }
    data = videos["cut"].read_bytes()
    videos["cut"].write_bytes(data[: len(data) // 2])
    return videos


@pytest.fixture(scope="module")
def disturbed(footage: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames a second: a face, beside it a smaller one; two seconds without; the face, alone, with a hand over it,
    then half covered; a cut to another person; a cut back."""
    face = talking_face(0, 13)
    stranger = [_sized(f) for f in islice(read_frames(asset_cache.paths("second-subject")[0]), 60, 64)]
    wide = [np.pad(frame, ((0, 0), (0, 240), (0, 0))) for frame in face]
    small = np.asarray(Image.fromarray(face[0]).resize((240, 192)))
    beside = [frame.copy() for frame in wide[:7]]
    for frame in beside:
        frame[40:232, 360:] = small
    hidden, half = ([frame.copy() for frame in wide[k : k + 2]] for k in (7, 9))
    for frame in hidden:
        frame[60:260, 100:280] = (190, 150, 130)
    for frame in half:
        frame[190:260, 130:250] = (190, 150, 130)
    others = [np.pad(frame, ((0, 0), (0, 240), (0, 0))) for frame in stranger]
    frames = [*beside, *([np.full_like(wide[0], 90)] * 10), *wide[7:9], *hidden, *half, *others, *wide[9:13]]
    return write_video(tmp_path_factory.mktemp("disturbed") / "me.mkv", frames, fps=5)


def _sized(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((360, 288)))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache but for the landmark predictor."""
    models = [asset_cache.path(name).parent for name in ("landmarks68", "identity")]
    folder = tmp_path / "cache"
    folder.mkdir()
    for model in models:
        (folder / model.name).symlink_to(model)
    monkeypatch.setenv("SVGAN_CACHE", str(folder))
    return folder


class Notes(embed.Watcher):
    def __init__(self, interrupt_in: str = ""):
        self.stages: set[tuple[str, str]] = set()
        self.told: dict[str, str] = {}
        self.interrupt_in = interrupt_in

    def stage(self, video: str, stage: str, done: int, total: int) -> None:
        self.stages.add((video, stage))
        assert done <= total
        if video == self.interrupt_in:
            raise KeyboardInterrupt

    def finished(self, video: str, summary: str) -> None:
        self.told[video] = summary


def test_failing_videos_are_told_and_the_rest_goes_on(
    footage: dict[str, Path], random_domain: Path, cache: Path, tmp_path: Path
):
    domain, notes = Domain.load(random_domain), Notes()
    videos = [footage[name] for name in ("good", "two", "none", "fast", "cut")] + [tmp_path / "absent.mkv"]
    result = embed.embed(videos, domain, tmp_path / "out", watcher=notes)
    assert set(result.failures) == {"two.mkv", "none.mkv", "fast.mkv", "absent.mkv"}
    for name, words in {
        "two.mkv": "two or more faces in 3 of 3 frames",
        "none.mkv": "no face in any of 6 frames",
        "fast.mkv": "50 frames a second, the set has 25",
        "absent.mkv": "no such file",
    }.items():
        assert words in result.failures[name]
        assert "\n" not in result.failures[name]
    assert "the file ends 0.6 s too early" in notes.told["cut.mkv"]
    assert "no clip has the 25 frames" in notes.told["cut.mkv"]

    latents = open_latents(tmp_path / "out", domain=domain.digest)
    assert [v["name"] for v in latents.manifest.videos] == ["good.mkv", "cut.mkv"]
    good = latents.video == 0
    assert latents.codes[good].shape == (FRAMES, 6, 8)
    crops = aligned_video.align_cached(footage["good"], crop_size(domain))
    assert crops.crops.shape == (FRAMES, 128, 128, 3)
    assert crops.fps == 25
    np.testing.assert_allclose(latents.codes[good], domain.encode(crops.crops), rtol=2e-3, atol=1e-4)

    origins = open_origins(latents)["good.mkv"]
    assert np.allclose(origins.quads, crops.quads, atol=1e-3)
    assert np.allclose(to_crop(origins.landmarks, origins.quads, 128), crops.landmarks, atol=0.01)
    assert np.allclose(origins.time, np.arange(FRAMES) / 25)
    frames = original_frames(latents, [footage["good"], footage["cut"]], domain)
    # Cut by the kept transforms, in float32, here by the quads they were made from: a byte may round the other way.
    assert np.abs(frames[:FRAMES] - shrink(crops.crops, 16).astype(int)).max() <= 1
    shutil.copy(footage["other"], tmp_path / "good.mkv")
    with pytest.raises(UserError, match="not the video that was embedded under this name"):
        original_frames(latents, [tmp_path / "good.mkv"], domain)


def test_systems_of_frames_learn_from_what_was_recorded(
    footage: dict[str, Path], random_domain: Path, cache: Path, tmp_path: Path
):
    domain, where = Domain.load(random_domain), str(tmp_path / "codes")
    embed.embed([footage["good"]], domain, Path(where))
    latents = open_latents(where, domain=domain.digest)
    small = {"width": 8, "channel_base": 128, "channel_max": 8, "joined": 8, "kernel": 3, "distance": 8, "window": 9}
    flags = {"domain": str(random_domain), "latents": where, "report_every": 1, "footage": [str(footage["good"])]}
    out, cpu = tmp_path / "run", torch.device("cpu")
    run = plan_run(out, "stylegan-v", small | {"batch": 4, "steps": 1}, resume=False, **flags)
    source = registry.make_source(run.config, Material(domain=domain, latents=latents, videos=run.footage), cpu)
    crops = shrink(aligned_video.align_cached(footage["good"], crop_size(domain)).crops, 16)
    seen = (source.frames[torch.arange(FRAMES)].movedim(1, -1) + 1) * 127.5
    np.testing.assert_allclose(seen.numpy(), crops, atol=1.01)  # a byte, as above
    assert train_run(run, out, reporter=NullReporter(), device=cpu).step == 1
    again = plan_run(out, None, {}, resume=True, **flags | {"footage": None, "domain": None, "latents": None})
    assert again.footage == run.footage == (str(footage["good"]),)
    run = plan_run(tmp_path / "other", "tiny", {"components": 4}, resume=False, **flags)
    with pytest.raises(UserError, match="--footage: tiny learns from codes alone; leave it out, or take --recipe"):
        train_run(run, tmp_path / "other", reporter=NullReporter(), device=cpu)
    assert not (tmp_path / "other").exists()


def test_recorded_frames_are_kept_beside_the_codes_and_learned_from(
    footage: dict[str, Path], random_domain: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    videos, domain, where = [str(footage["good"]), str(footage["cut"])], Domain.load(random_domain), tmp_path / "codes"
    common = ["--domain", str(random_domain), "--device", "cpu"]
    assert cli.run(["embed", *videos, "--out", str(where), "--frames", *common]) == 0
    assert cli.run(["embed", *videos, "--out", str(tmp_path / "bare"), *common]) == 0
    latents, bare = (open_latents(path, domain=domain.digest) for path in (where, tmp_path / "bare"))
    assert latents.digest == bare.digest, "codes are the same codes"
    assert latents.manifest.recorded["size"] == 16
    recorded = open_recorded(latents)
    assert np.array_equal(recorded, original_frames(latents, videos, domain))
    small = {"width": 8, "channel_base": 128, "channel_max": 8, "joined": 8, "kernel": 3, "distance": 8, "window": 9}
    flags = {"domain": str(random_domain), "latents": str(where), "report_every": 1, "footage": []}
    cpu = torch.device("cpu")
    run = plan_run(tmp_path / "run", "stylegan-v", small | {"batch": 4, "steps": 1}, resume=False, **flags)
    assert run.footage == (BESIDE,)
    source = registry.make_source(run.config, Material(domain=domain, latents=latents, videos=run.footage), cpu)
    seen = (source.frames[torch.arange(9)].movedim(1, -1) + 1) * 127.5
    np.testing.assert_allclose(seen.numpy(), recorded[:9], atol=0.01)
    assert train_run(run, tmp_path / "run", reporter=NullReporter(), device=cpu).step == 1
    capsys.readouterr()
    where = ["--latents", str(tmp_path / "bare"), "--domain", str(random_domain), "--out", str(tmp_path / "other")]
    assert cli.run(["train", "--recipe", "stylegan-v", *where, "--footage"]) == 2
    assert capsys.readouterr().err == (
        f"svgan: --footage: {tmp_path / 'bare'} keeps no recorded frames beside its codes; embed the videos again "
        "with svgan embed --frames, or name them (not in studies)\n"
    )
    assert not (tmp_path / "other").exists()


def test_a_generated_face_is_pasted_into_the_recorded_frames(
    footage: dict[str, Path], random_domain: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    codes, run, clip = tmp_path / "codes", tmp_path / "run", tmp_path / "again.mp4"
    embed.embed([footage["good"]], Domain.load(random_domain), codes)
    small = {"components": 4, "width": 8, "trunk": [8], "critic_widths": [8], "batch": 2, "steps": 1, "window": 9}
    where = {"domain": str(random_domain), "latents": str(codes)}
    planned = plan_run(run, "tiny", small, report_every=1, resume=False, **where)
    train_run(planned, run, reporter=NullReporter(), device=torch.device("cpu"))
    flags = ["--paste-back", footage["good"], "--frames", 10, "--out", clip, "--device", "cpu"]
    assert cli.run(["sample", str(run), *map(str, flags)]) == 0, capsys.readouterr().err
    pasted, recorded = np.stack(list(read_frames(clip))), np.stack(list(islice(read_frames(footage["good"]), 10)))
    assert pasted.shape == recorded.shape
    assert frame_rate(clip) == frame_rate(footage["good"]) == 25
    apart = np.abs(pasted.astype(int) - recorded).mean((0, 3))
    assert apart[:20].mean() < 3, "the frame's edge is as recorded"
    assert apart[100:200, 130:230].mean() > 10, "the face is not"

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(tmp_path / "noise.png")
    capsys.readouterr()
    flags = ["--subject", tmp_path / "noise.png", "--out", tmp_path / "you.mp4", "--device", "cpu"]
    assert cli.run(["sample", str(run), *map(str, flags)]) == 2
    told = capsys.readouterr().err
    assert "noise.png: no face" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "you.mp4").exists()


def test_a_file_of_sound_alone_is_one_line(random_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    with wave.open(str(tmp_path / "voice.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    flags = ["--out", tmp_path / "codes", "--domain", random_domain, "--device", "cpu"]
    assert cli.run(["embed", str(tmp_path / "voice.wav"), *map(str, flags)]) == 2
    told = capsys.readouterr().err
    assert "voice.wav" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "codes").exists()


def test_a_disturbed_video_falls_into_clips_of_one_subject(
    disturbed: Path, random_domain: Path, cache: Path, tmp_path: Path
):
    domain, notes = Domain.load(random_domain), Notes()
    embed.embed([disturbed], domain, tmp_path / "out", watcher=notes)
    latents = open_latents(tmp_path / "out")
    runs = np.split(latents.index, np.flatnonzero(np.diff(latents.index) != 1) + 1)
    # 0-6 beside another; 7-16 nobody; 17-18; 19-20 hidden; 21-22 half hidden; 23-26 the stranger; 27-30
    assert [(int(run[0]), int(run[-1])) for run in runs] == [(0, 6), (17, 18), (21, 22), (28, 30)]
    assert "left out: no face 12, cut 2, another person 3" in notes.told["me.mkv"]
    assert latents.manifest.fps == 5


def _noted(worked: list[str], what: str, work):
    def noted(path: Path, *rest):
        worked.append(f"{what} {Path(path).name}")
        return work(path, *rest)

    return noted


def test_a_killed_run_goes_on_where_it_was(
    footage: dict[str, Path], random_domain: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    domain, videos = Domain.load(random_domain), [footage["good"], footage["other"]]
    with pytest.raises(KeyboardInterrupt):
        embed.embed(videos, domain, tmp_path / "out", watcher=Notes(interrupt_in="other.mkv"))
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]

    worked: list[str] = []
    monkeypatch.setattr(embed, "cut", _noted(worked, "crops", embed.cut))
    monkeypatch.setattr(aligned_video, "scan", _noted(worked, "faces", aligned_video.scan))
    embed.embed(videos, domain, tmp_path / "out")
    assert worked == ["faces other.mkv", "crops other.mkv"]  # its first stretch had been seen, and was not kept
    assert open_latents(tmp_path / "out").manifest.rows == 2 * FRAMES + 1

    broken = next((cache / "tracks").glob("*/codes-*.npz"))
    broken.write_bytes(b"PK")
    worked.clear()
    embed.embed(videos, domain, tmp_path / "again")
    assert [what.split()[0] for what in worked] == ["crops"]  # the faces were still there
    assert open_latents(tmp_path / "again").digest == open_latents(tmp_path / "out").digest


def test_nothing_is_written_when_all_fail(footage: dict[str, Path], random_domain: Path, cache: Path, tmp_path: Path):
    domain = Domain.load(random_domain)
    with pytest.raises(UserError, match=r"no latents written: .*none.mkv: no face in any"):
        embed.embed([footage["none"]], domain, tmp_path / "out")
    with pytest.raises(UserError, match="two videos of this name"):
        embed.embed([footage["good"]] * 2, domain, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_a_cache_that_is_no_folder_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be read \(Not a directory\); set SVGAN_CACHE to another folder"):
        aligned_video.cached_arrays(tmp_path / "file" / "tracks" / "faces-00000.npz", dict)
