"""A set of files published whole.

A local folder appears by one rename. A remote one gets its marker file last, and only if there is none yet.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svgan.errors import UserError
from svgan.io import storage
from svgan.io.atomic import folder_beside
from svgan.io.storage_errors import code, storage_errors


@contextmanager
def publish(uri: str, *, last: str) -> Iterator[Path]:
    """A local scratch folder whose files appear under `uri` if the block succeeds, file `last` after all others.

    If the block or the upload fails, nothing of it is left under `uri`. If several processes publish to one place at
    the same time, one succeeds. Raises UserError if `uri` is taken.
    """
    if storage.read_or_explain(storage.join(uri, last)) is not None:
        raise _taken(uri, last)
    if storage.is_local(uri):
        with _publish_local(storage.local_path(uri)) as scratch:
            yield scratch
    else:
        with tempfile.TemporaryDirectory(prefix="svgan-") as folder:
            yield Path(folder)
            _upload(Path(folder), uri, last)


def _taken(uri: str, last: str) -> UserError:
    return UserError(f"{uri}: already holds a {last}; give another place, or remove it first")


@contextmanager
def _publish_local(target: Path) -> Iterator[Path]:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: exists and is not an empty folder; give another place")
    with storage_errors(str(target), "write"):
        scratch = folder_beside(target)
    try:
        yield scratch
        with storage_errors(str(target), "write"):
            os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _upload(folder: Path, uri: str, last: str) -> None:
    """Upload the files, the marker last and only if there is none. On failure, remove what was uploaded, except files
    that another process's marker names.
    """
    names = sorted(p.name for p in folder.iterdir() if p.name != last)
    sent: list[str] = []
    with storage_errors(uri, "write"):
        filesystem, root = storage.open_filesystem(uri)
        try:
            for name in names:
                sent.append(name)
                filesystem.put_file(str(folder / name), storage.join(root, name))
            _put_first(filesystem, storage.join(root, last), (folder / last).read_bytes())
        except BaseException as error:
            taken = isinstance(error, FileExistsError)
            others = (storage.read_or_explain(storage.join(uri, last)) or b"") if taken else b""
            for name in sent:
                if name.encode() not in others and filesystem.exists(storage.join(root, name)):
                    filesystem.rm_file(storage.join(root, name))
            if taken:
                raise _taken(uri, last) from None
            raise


def _put_first(filesystem: Any, path: str, data: bytes) -> None:
    """Create a file only if it does not exist; S3 decides (If-None-Match). Raises FileExistsError otherwise."""
    try:
        filesystem.pipe_file(path, data, mode="create")
    except OSError as error:
        if code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
            raise FileExistsError(path) from error
        raise
