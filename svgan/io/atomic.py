"""Files and folders that are written whole or not at all, with the permissions that the umask allows."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from svgan.errors import UserError, one_line


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to. It replaces `path` if the block succeeds, and is removed otherwise.

    Parent folders are created. safetensors closes its files to others; here they get the permissions of any new file.
    Raises OSError, and whatever the block raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _beside(path)
    try:
        aside.touch()
        rights = aside.stat().st_mode
        yield aside
        aside.chmod(rights)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def link_whole(path: Path, content: bytes) -> bool:
    """Write a new file; False where there is one of that name. Of several writers at once, one gets True.

    The file appears whole. A file system without hard links gets it by exclusive creation, where a killed writer may
    leave a part. Parent folders are created. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _beside(path)
    try:
        aside.write_bytes(content)
        try:
            os.link(aside, path)
        except FileExistsError:
            # A file server that repeats a request says so of the link that it has made.
            return aside.stat().st_nlink == 2
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            return _created(path, content)
        return True
    finally:
        aside.unlink(missing_ok=True)


def _created(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def folder_beside(path: Path) -> Path:
    """A new folder next to `path`, to be renamed to it, with the umask's permissions (tempfile's are closed). Parent
    folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _beside(path)
    aside.mkdir()
    return aside


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn the errors of a full or broken disk, while `place` is written, into a UserError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(f"{place}: cannot write ({one_line(error)}); make room, and give the command again") from error


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
