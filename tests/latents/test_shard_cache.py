"""A node's cache of remote shards: once, checked, bounded, and done without where it cannot be used."""

import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from svgan.errors import UserError
from svgan.latents import shard_cache

DATA = b"codes" * 100
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SVGAN_CACHE", str(tmp_path))
    monkeypatch.setenv("SVGAN_CACHE_GB", "1")
    return tmp_path / "shards"


def kept(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if not path.suffix}


def never() -> bytes:
    raise AssertionError("it was there already")


def test_what_was_fetched_once_is_there(cache):
    assert shard_cache.fetch(DIGEST, lambda: DATA) == DATA
    assert shard_cache.fetch(DIGEST, never) == DATA
    assert kept(cache) == {DIGEST}


def test_a_damaged_copy_is_fetched_again(cache):
    shard_cache.fetch(DIGEST, lambda: DATA)
    (cache / DIGEST).write_bytes(DATA[:-1] + b"x")
    assert shard_cache.fetch(DIGEST, lambda: DATA) == DATA
    assert (cache / DIGEST).read_bytes() == DATA


def test_other_bytes_are_refused_and_nothing_is_kept_of_them(cache):
    with pytest.raises(shard_cache.Corrupt):
        shard_cache.fetch(DIGEST, lambda: b"other")
    assert shard_cache.fetch(DIGEST, lambda: None) is None
    assert kept(cache) == set()


def slowly(folder: str, count) -> None:
    def download() -> bytes:
        with count.get_lock():
            count.value += 1
        time.sleep(0.3)
        return DATA

    assert shard_cache.fetch(DIGEST, download) == DATA


def test_processes_that_want_it_at_once_fetch_it_once(cache):
    context = multiprocessing.get_context("fork")
    count = context.Value("i", 0)
    processes = [context.Process(target=slowly, args=(str(cache), count)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * 4
    assert count.value == 1


def test_the_least_recently_used_go_first(cache, monkeypatch):
    parts = [bytes([number]) * 400 for number in range(4)]
    names = [hashlib.sha256(part).hexdigest() for part in parts]
    monkeypatch.setenv("SVGAN_CACHE_GB", "0.000001")  # 1000 bytes: two of them
    for at, (name, part) in enumerate(zip(names[:2], parts[:2], strict=True)):
        shard_cache.fetch(name, lambda part=part: part)
        os.utime(cache / name, (at, at))
    shard_cache.fetch(names[0], never)  # used now
    shard_cache.fetch(names[2], lambda: parts[2])
    assert kept(cache) == {names[0], names[2]}
    large = bytes(2000)
    assert shard_cache.fetch(hashlib.sha256(large).hexdigest(), lambda: large) == large
    assert kept(cache) == {names[0], names[2]}


def test_what_a_killed_writer_left_is_removed_later(cache):
    cache.mkdir(parents=True)
    for name, age in ((".old.partial", 7200), (".new.partial", 10)):
        (cache / name).write_bytes(b"half")
        os.utime(cache / name, (time.time() - age, time.time() - age))
    shard_cache.fetch(DIGEST, lambda: DATA)
    assert not (cache / ".old.partial").exists()
    assert (cache / ".new.partial").exists()


def test_without_a_place_or_with_none_wanted_it_is_only_fetched(cache, monkeypatch):
    monkeypatch.setenv("SVGAN_CACHE", "/proc/nowhere")
    assert shard_cache.fetch(DIGEST, lambda: DATA) == DATA
    monkeypatch.setenv("SVGAN_CACHE", str(cache.parent))
    monkeypatch.setenv("SVGAN_CACHE_GB", "0")
    assert shard_cache.fetch(DIGEST, lambda: DATA) == DATA
    assert not cache.exists()
    with pytest.raises(shard_cache.Corrupt):
        shard_cache.fetch(DIGEST, lambda: b"other")


@pytest.mark.parametrize("text", ["much", "nan", "inf"])
def test_a_bound_that_is_no_number_is_named(monkeypatch, text):
    monkeypatch.setenv("SVGAN_CACHE_GB", text)
    with pytest.raises(UserError, match=f"SVGAN_CACHE_GB={text}"):
        shard_cache.fetch(DIGEST, lambda: DATA)
