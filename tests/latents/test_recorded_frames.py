"""Recorded frames beside the codes: written in bounded parts, read once into a map, refused when they do not fit."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from full_disk import no_room

from svgan.errors import UserError
from svgan.latents import recorded_frames
from svgan.latents.manifest import VideoCodes
from svgan.latents.origins import Origins
from svgan.latents.recorded_frames import cached_frames, frame_map, open_recorded
from svgan.latents.shards import open_latents, write_latents

SIZE = 8


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SVGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recorded_frames, "AT_MOST", 7 * 3 * SIZE * SIZE)
    return tmp_path / "cache"


def video(name: str, index: list[int]) -> VideoCodes:
    n = len(index)
    codes = np.random.default_rng(n).normal(size=(n, 4, 8)).astype(np.float32)
    times = np.arange(n)
    shapes = {"landmarks": np.zeros((n, 68, 2), np.float32), "transform": np.zeros((n, 2, 3), np.float32)}
    return VideoCodes(name, np.array(index), codes, Origins(source=name, pts=times, time=times / 25, **shapes))


def pictures(name: str, count: int) -> np.ndarray:
    return np.random.default_rng(ord(name[0])).integers(0, 255, (count, SIZE, SIZE, 3), np.uint8)


def made(folder: Path, short: int = 0, size: int = SIZE) -> Path:
    def frames(name: str, origins: Origins) -> Iterator[np.ndarray]:
        yield from pictures(name, len(origins.pts) - short)[:, :size, :size]

    videos = [video("a.webm", [*range(10), *range(20, 26)]), video("b.webm", list(range(4)))]
    write_latents(folder, videos, domain="d" * 16, fps=25, components=3, recorded=frames)
    return folder


def test_they_come_back_from_files_of_some_frames_each_by_one_map(tmp_path: Path):
    latents = open_latents(made(tmp_path / "set"))
    kept = latents.manifest.recorded
    assert kept["size"] == SIZE
    assert [shard["rows"] for shard in kept["shards"]] == [7, 7, 6]
    found = open_recorded(latents)
    assert np.array_equal(found, np.concatenate([pictures("a", 16), pictures("b", 4)]))
    assert isinstance(found, np.memmap)
    for shard in kept["shards"]:
        (tmp_path / "set" / shard["name"]).unlink()
    assert np.array_equal(open_recorded(latents), found), "once on a machine"


def test_as_many_as_codes_or_nothing_is_written(tmp_path: Path):
    with pytest.raises(ValueError, match="zip"):
        made(tmp_path / "set", short=1)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "missing, though the manifest lists it"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "corrupt (sha256 differs from the manifest's)"),
    ],
)
def test_a_damaged_file_is_named_and_no_half_map_is_left(tmp_path: Path, cache: Path, damage, words: str):
    latents = open_latents(made(tmp_path / "set"))
    path = tmp_path / "set" / latents.manifest.recorded["shards"][2]["name"]
    damage(path)
    with pytest.raises(UserError) as error:
        open_recorded(latents)
    assert str(error.value).startswith(f"{path}: {words}")
    assert [file.suffix for file in (cache / "frames").iterdir()] == [".lock"]


def test_a_broken_map_is_made_again_and_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    latents = open_latents(made(tmp_path / "set"))
    found = np.array(open_recorded(latents))
    (path,) = cached_frames("x").parent.glob("*.npy")
    path.write_bytes(path.read_bytes()[:200])
    assert np.array_equal(open_recorded(latents), found)
    path.unlink()
    with no_room(2048), pytest.raises(UserError, match="make room"):
        open_recorded(latents)


def test_of_several_that_want_a_map_one_makes_it():
    began: list[int] = []

    def parts() -> Iterator[np.ndarray]:
        began.append(1)
        time.sleep(0.3)
        yield np.arange(12, dtype=np.uint8)

    with ThreadPoolExecutor(3) as pool:
        maps = [each.result() for each in [pool.submit(frame_map, "some", (1, 2, 2, 3), parts) for _ in range(3)]]
    assert len(began) == 1
    assert all(found.ravel().tolist() == list(range(12)) for found in maps)


def test_codes_without_frames_say_how_to_keep_them(tmp_path: Path):
    videos = [video("a.webm", list(range(5)))]
    write_latents(tmp_path / "bare", videos, domain="d" * 16, fps=25, components=3)
    with pytest.raises(UserError, match=r"bare keeps no recorded frames beside its codes; embed the videos again"):
        open_recorded(open_latents(tmp_path / "bare"))
