"""Files that are created by one writer alone: the same contract on a disk, in memory and on a real S3 server."""

import errno
import os
import threading
import uuid

import pytest
from at_once import run_at_once

from svgan.io import storage

PLACES = [
    "disk",
    "no links",
    "memory",
    pytest.param("s3", marks=pytest.mark.slow),  # the server takes seconds to start
]
WRITERS = 8


@pytest.fixture(params=PLACES)
def folder(request: pytest.FixtureRequest, tmp_path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty folder."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}"
    if request.param == "no links":

        def link(source, target):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    return str(tmp_path)


def test_a_file_is_created_once(folder: str):
    uri = f"{folder}/deep/claim"
    assert storage.create(uri, b"first")
    assert not storage.create(uri, b"second")
    assert storage.read(uri) == b"first"
    storage.remove(uri)
    assert storage.create(uri, b"second")
    assert storage.read(uri) == b"second"


def test_nothing_else_is_left_in_the_folder(folder: str):
    for content in (b"first", b"second"):
        storage.create(f"{folder}/claim", content)
    assert storage.names(folder) == ["claim"]


def test_a_creator_whose_answer_was_lost_is_told_that_the_file_is_its_own(folder: str):
    """The network's repetition of a request meets the file that the first request made."""
    assert storage.create(f"{folder}/claim", b"mine")
    assert storage.create(f"{folder}/claim", b"mine")


def test_of_writers_at_once_one_creates_the_file(folder: str):
    for turn in range(20):
        uri, won, start = f"{folder}/claim-{turn}", list[int](), threading.Barrier(WRITERS)

        def write(number: int, uri: str = uri, won: list[int] = won, start: threading.Barrier = start) -> None:
            start.wait()
            if storage.create(uri, f"writer {number}".encode()):
                won.append(number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert storage.read(uri) == f"writer {won[0]}".encode()


@pytest.mark.slow
def test_of_processes_at_once_one_creates_the_file(s3: str, tmp_path):
    for folder in (str(tmp_path), f"{s3}/{uuid.uuid4().hex}"):
        prepare = "import os; from svgan.io import storage; folder = sys.argv[1]; storage.exists(folder)"
        do = "sum(storage.create(f'{folder}/claim-{turn}', str(os.getpid()).encode()) for turn in range(50))"
        assert sum(map(int, run_at_once(prepare, do, folder, count=3))) == 50
