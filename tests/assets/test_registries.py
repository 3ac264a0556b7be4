"""What pip is asked for: one known archive, of which nothing runs."""

import hashlib
import os
import sys
import tarfile
from pathlib import Path

import pytest

from svgan.assets.registries import Package, fetch
from svgan.errors import UserError

SETUP = """
import pathlib
from setuptools import setup
pathlib.Path({ran!r}).touch()
setup(name="evil-one", version="1.0")
"""


@pytest.fixture(params=["", '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'])
def published(request, tmp_path, monkeypatch) -> Package:
    """A source archive in a folder that is pip's only index."""
    source, shelf = tmp_path / "evil_one-1.0", tmp_path / "shelf"
    source.mkdir()
    shelf.mkdir()
    (source / "setup.py").write_text(SETUP.format(ran=str(tmp_path / "ran")))
    if request.param:
        (source / "pyproject.toml").write_text(request.param)
    archive = shelf / "evil_one-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, source.name)
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(shelf), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    data = archive.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return Package(client="pip", name="evil-one", version="1.0", archive=archive.name, sha256=sha256, size=len(data))


def folder(tmp_path: Path) -> Path:
    made = tmp_path / "scratch"
    made.mkdir()
    return made


def test_nothing_of_a_source_archive_is_run(published, tmp_path):
    found = fetch(published, folder(tmp_path), remedy="bring it by hand")
    assert hashlib.sha256(found.read_bytes()).hexdigest() == published.sha256
    assert not (tmp_path / "ran").exists()


def test_another_archive_under_that_name_is_refused_in_one_line(published, tmp_path):
    (tmp_path / "shelf" / published.archive).write_bytes(b"another")
    with pytest.raises(UserError, match=r"evil-one 1.0: cannot be fetched .*HASHES.*or run `pip") as caught:
        fetch(published, folder(tmp_path), remedy="bring it by hand")
    assert "\n" not in str(caught.value)


def test_pip_that_is_not_installed_is_one_line(published, tmp_path, monkeypatch):
    """As in an environment that uv made."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(UserError, match=r"fetched \(python: No module named pip\); check the network, or run"):
        fetch(published, folder(tmp_path), remedy="bring it by hand")
