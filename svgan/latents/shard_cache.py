"""A node's own copies of remote shards: each fetched once however many trials need it, checked on every use, bounded.

A file is named by the sha256 of its content and appears whole, by a rename. Processes of one node share the folder
`shards/` of SVGAN_CACHE; SVGAN_CACHE_GB bounds it (20), the least recently used go first, 0 switches it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from svgan.assets.cache import cache_folder
from svgan.errors import UserError
from svgan.io.atomic import write_whole

GIGABYTES, VARIABLE = 20.0, "SVGAN_CACHE_GB"
LEFT_BEHIND = 3600.0  # seconds after which a file being written is one that its writer has left


class Corrupt(Exception):
    """What was fetched has another digest."""


def fetch(digest: str, download: Callable[[], bytes | None]) -> bytes | None:
    """The bytes of this sha256, from the cache or else downloaded, once per node at a time; None where the download
    gives None. Raises Corrupt where it gives other bytes. A cache that cannot be used is done without."""
    if not bound():
        return check_digest(download(), digest)
    path = folder() / digest
    data = _kept(path)
    if data is not None:
        return data
    with _alone(digest):
        data = _kept(path)
        if data is None:
            data = check_digest(download(), digest)
            if data is not None:
                with contextlib.suppress(OSError):
                    _keep(path, data)
    return data


def folder() -> Path:
    return cache_folder() / "shards"


def bound() -> int:
    """Bytes that the cache may hold. Raises UserError for a SVGAN_CACHE_GB that is no number."""
    text = os.environ.get(VARIABLE) or str(GIGABYTES)
    try:
        return max(0, int(float(text) * 1e9))
    except (ValueError, OverflowError):
        raise UserError(f"{VARIABLE}={text}: must be a number of gigabytes, 0 for no cache") from None


def check_digest(data: bytes | None, digest: str) -> bytes | None:
    """The data itself. Raises Corrupt where its sha256 is another."""
    if data is not None and hashlib.sha256(data).hexdigest() != digest:
        raise Corrupt
    return data


def _kept(path: Path) -> bytes | None:
    """The file's bytes, marked as used; a damaged one is removed."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    try:
        check_digest(data, path.name)
    except Corrupt:
        path.unlink(missing_ok=True)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return data


def _keep(path: Path, data: bytes) -> None:
    limit = bound()
    if len(data) > limit:
        return
    make_room(limit - len(data))
    with write_whole(path) as aside:
        aside.write_bytes(data)


def make_room(limit: int) -> None:
    """Remove the least recently used until the others take at most `limit` bytes, and what killed writers left."""
    kept: list[tuple[float, int, Path]] = []
    for path in folder().iterdir():
        with contextlib.suppress(OSError):
            found = path.stat()
            if path.suffix == ".partial" and time.time() - found.st_mtime > LEFT_BEHIND:
                path.unlink()
            elif not path.suffix:
                kept.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in kept)
    for _, size, path in sorted(kept):
        if total <= limit:
            break
        path.unlink(missing_ok=True)
        total -= size


@contextlib.contextmanager
def _alone(digest: str) -> Iterator[None]:
    """One of this node's processes at a time for a digest, as far as the folder can be written; the system lets go of
    a killed one's lock."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            folder().mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder() / f"{digest[:2]}.lock"))
        yield
