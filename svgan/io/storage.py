"""Files of one folder, on a local disk or behind any fsspec URL (`s3://bucket/prefix`, ...).

botocore reads AWS_ENDPOINT_URL and the AWS credentials from the environment, so your own S3 server needs no setting
here. A set of files is published whole. A local folder appears by one rename. A remote one gets its marker file last,
and only if there is none yet.
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
from svgan.io.atomic import folder_beside
from svgan.io.storage_errors import code, storage_errors

RANGE = 8 * 2**20  # bytes of one request; several of a file are under way at a time


def join(uri: str, name: str) -> str:
    return f"{str(uri).rstrip('/')}/{name}"


def is_local(uri: str) -> bool:
    return "://" not in str(uri) or str(uri).startswith("file://")


def local_path(uri: str) -> Path:
    return Path(str(uri).removeprefix("file://")).expanduser()


def read(uri: str, size: int | None = None) -> bytes | None:
    """The file's bytes, None where there is no such file. Raises UserError when the storage cannot be read.

    size: of the file, where it is known; a large remote one is then read in ranges at a time.
    """
    with storage_errors(uri, "read"):
        try:
            if is_local(uri):
                return local_path(uri).read_bytes()
            filesystem, path = _open(uri)
            if size is None or size <= RANGE:
                return filesystem.cat_file(path, start=0)  # without a start s3fs asks for the size first
            starts = range(0, size, RANGE)
            ends = [min(size, start + RANGE) for start in starts]
            return b"".join(filesystem.cat_ranges([path] * len(starts), list(starts), ends, on_error="raise"))
        except (FileNotFoundError, NotADirectoryError) as error:
            if code(error) == "NoSuchBucket":
                raise
            return None


@contextmanager
def publish(uri: str, *, last: str) -> Iterator[Path]:
    """A local scratch folder whose files appear under `uri` if the block succeeds, file `last` after all others.

    If the block or the upload fails, nothing of it is left under `uri`. If several processes publish to one place at
    the same time, one succeeds. Raises UserError if `uri` is taken.
    """
    if read(join(uri, last)) is not None:
        raise _taken(uri, last)
    if is_local(uri):
        with _publish_local(local_path(uri)) as scratch:
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
        filesystem, root = _open(uri)
        try:
            for name in names:
                sent.append(name)
                filesystem.pipe_file(join(root, name), (folder / name).read_bytes())
            _put_first(filesystem, join(root, last), (folder / last).read_bytes())
        except BaseException as error:
            others = (read(join(uri, last)) or b"") if isinstance(error, FileExistsError) else b""
            for name in sent:
                if name.encode() not in others and filesystem.exists(join(root, name)):
                    filesystem.rm_file(join(root, name))
            if isinstance(error, FileExistsError):
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


_filesystems: dict[tuple[str, ...], Any] = {}


def _open(uri: str) -> tuple[Any, str]:
    """The file system, one per server and credentials in the environment, and the path in it."""
    import fsspec

    protocol = uri.partition("://")[0]
    names = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE")
    key = (protocol, str(os.getpid()), *(os.environ.get(name, "") for name in (*names, "AWS_DEFAULT_REGION")))
    if key not in _filesystems:
        _filesystems[key] = fsspec.core.url_to_fs(uri, skip_instance_cache=True)[0]
    filesystem = _filesystems[key]
    return filesystem, filesystem._strip_protocol(uri)
