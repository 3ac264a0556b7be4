"""Small files in a study's place in the storage, local or behind a URL: written whole, listed, read, removed."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.io.atomic import write_whole
from svgan.io.storage import is_local, local_path
from svgan.io.storage_errors import explained

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

PROBE_BYTES = 1 << 16
FULL = ("No space left on device", "database or disk is full", "Disk quota exceeded")
ERRORS: tuple[type[Exception], ...] = (OSError, ValueError)
try:
    from botocore.exceptions import BotoCoreError, ClientError

    ERRORS += (BotoCoreError, ClientError)
except ImportError:  # pragma: no cover
    pass


def place(plan: Plan, *parts: str) -> str:
    """The address of a part of this study in its storage."""
    return "/".join([plan.storage.rstrip("/"), plan.name, *parts])


def write(where: str, content: bytes) -> None:
    """A file, there whole or not at all. Raises one of ERRORS."""
    if not is_local(where):
        files, path = _remote(where)
        files.pipe_file(path, content)
        return
    with write_whole(local_path(where)) as aside:
        aside.write_bytes(content)


def read(where: str) -> bytes | None:
    """The bytes of a file, None where there is none."""
    try:
        if is_local(where):
            return local_path(where).read_bytes()
        files, path = _remote(where)
        return files.cat_file(path)
    except FileNotFoundError:
        return None


def exists(where: str) -> bool:
    if is_local(where):
        return local_path(where).exists()
    files, path = _remote(where)
    return bool(files.exists(path))


def trouble(where: str, error: BaseException | None = None) -> str | None:
    """Why nothing can be kept in this folder now, in one line; None if something can.

    error: one that may have come of it; a full disk is known by it, since a probe may find a last free block.
    """
    text = str(error or "")
    if full := next((word for word in FULL if word in text), None):
        return full
    probe = f"{where}/.probe-{uuid.uuid4().hex}"
    try:
        write(probe, bytes(PROBE_BYTES))
        remove(probe)
    except ERRORS as failed:
        return explained(where, failed)[0]
    return None


def names(where: str) -> list[str]:
    """What is in a folder, hidden files left out; empty where there is none."""
    try:
        if is_local(where):
            found = os.listdir(local_path(where))
        else:
            files, path = _remote(where)
            found = [item.rstrip("/").rpartition("/")[2] for item in files.ls(path, detail=False, refresh=True)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in found if name and not name.startswith(".")]


def remove(where: str) -> None:
    """A file or a folder with all in it; nothing happens where there is none."""
    if is_local(where):
        target = local_path(where)
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)
        return
    files, path = _remote(where)
    if files.exists(path):
        files.rm(path, recursive=True)


def upload(folder: Path, where: str) -> None:
    """The files of a local folder, as a folder of the storage. Not atomic: mark it as whole with a file of its own."""
    if is_local(where):
        shutil.copytree(folder, local_path(where), dirs_exist_ok=True)
        return
    files, path = _remote(where)
    for item in sorted(folder.rglob("*")):
        if item.is_file():
            files.pipe_file(f"{path}/{item.relative_to(folder).as_posix()}", item.read_bytes())


def download(where: str, folder: Path) -> None:
    """The files of a folder of the storage into a local one; none where there is no such folder."""
    if is_local(where):
        if not local_path(where).exists():
            return
        shutil.copytree(local_path(where), folder, dirs_exist_ok=True)
        return
    files, path = _remote(where)
    for item in files.find(path) if files.exists(path) else []:
        if item.rstrip("/") == path.rstrip("/"):  # a folder's own mark, which some servers keep
            continue
        target = folder / item[len(path) :].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files.cat_file(item))


def _remote(where: str) -> tuple[Any, str]:
    import fsspec

    files, path = fsspec.core.url_to_fs(where)
    files.invalidate_cache(path.rpartition("/")[0])
    return files, path
