"""Files on a local disk or behind any fsspec URL (`s3://bucket/prefix`, ...): written whole, listed, read, removed.

botocore reads AWS_ENDPOINT_URL and the AWS credentials from the environment, so your own S3 server needs no setting
here. Functions raise one of ERRORS if they say nothing else. `upload` and `download` stream files between disk and
server, and report the bytes as they move (`transfers`).
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
import uuid
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from svgan.io.atomic import link_whole, write_whole
from svgan.io.storage_errors import ERRORS, code, explained, storage_errors
from svgan.io.transfers import Transfer

RANGE = 8 * 2**20  # bytes of one request; several of a file are under way at a time
PROBE_BYTES = 1 << 16
CONFLICT_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds; a conflict ends with the other request, some 50 ms later
FULL = ("No space left on device", "database or disk is full", "Disk quota exceeded")


def join(uri: str, *names: str) -> str:
    return "/".join([str(uri).rstrip("/"), *names])


def is_local(uri: str) -> bool:
    return "://" not in str(uri) or str(uri).startswith("file://")


def local_path(uri: str) -> Path:
    return Path(str(uri).removeprefix("file://")).expanduser()


def write(uri: str, content: bytes) -> None:
    """Write a file. It appears whole or not at all."""
    if is_local(uri):
        with write_whole(local_path(uri)) as aside:
            aside.write_bytes(content)
        return
    filesystem, path = open_filesystem(uri)
    filesystem.pipe_file(path, content)


def create(uri: str, content: bytes) -> bool:
    """Write a file that is not there yet, whole; False where another writer's file is there.

    Of several writers at once, on any machines, one gets True. The content must name its writer: a request that was
    repeated because its answer was lost is known by it. On S3 this is a conditional put (If-None-Match: *), which AWS
    and SeaweedFS honour (docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
    """
    if is_local(uri):
        return link_whole(local_path(uri), content) or read(uri) == content
    filesystem, path = open_filesystem(uri)
    for pause in CONFLICT_PAUSES:
        try:
            with _in_turn if uri.startswith("memory:") else nullcontext():
                filesystem.pipe_file(path, content, mode="create")
            return True
        except FileExistsError:
            return read(uri) == content
        except OSError as error:
            if code(error) in ("PreconditionFailed", "412"):
                return read(uri) == content
            if code(error) not in ("ConditionalRequestConflict", "409"):
                raise
        time.sleep(pause)  # somebody writes or removes the same file at this moment: S3 asks for another try
    raise OSError(errno.EBUSY, "others write the same file again and again", uri)


def read(uri: str, size: int | None = None) -> bytes | None:
    """The file's bytes, None if there is no such file.

    size: of the file, where it is known; a large remote one is then read in ranges at a time.
    """
    try:
        if is_local(uri):
            return local_path(uri).read_bytes()
        filesystem, path = open_filesystem(uri)
        if size is None or size <= RANGE:
            return filesystem.cat_file(path, start=0)  # without a start s3fs asks for the size first
        starts = range(0, size, RANGE)
        ends = [min(size, start + RANGE) for start in starts]
        return b"".join(filesystem.cat_ranges([path] * len(starts), list(starts), ends, on_error="raise"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if code(error) == "NoSuchBucket":
            raise
        return None
    except OSError as error:
        if code(error) in ("InvalidRange", "416"):  # an empty file has no first byte
            return b""
        raise


def read_or_explain(uri: str, size: int | None = None) -> bytes | None:
    """As `read`. Raises UserError with the remedy if the storage cannot be read."""
    with storage_errors(uri, "read"):
        return read(uri, size)


def exists(uri: str) -> bool:
    if is_local(uri):
        return local_path(uri).exists()
    filesystem, path = _fresh(uri)
    return bool(filesystem.exists(path))


def trouble(uri: str, error: BaseException | None = None) -> str | None:
    """Why nothing can be kept in this folder now, in one line; None if something can.

    error: one that may have come of it; a full disk is known by it, since a probe may find a last free block.
    """
    text = str(error or "")
    if full := next((word for word in FULL if word in text), None):
        return full
    probe = f"{uri}/.probe-{uuid.uuid4().hex}"
    try:
        write(probe, bytes(PROBE_BYTES))
        remove(probe)
    except ERRORS as failed:
        return explained(uri, failed)[0]
    return None


def names(uri: str) -> list[str]:
    """What is in a folder, hidden files left out; empty where there is none."""
    try:
        if is_local(uri):
            found = os.listdir(local_path(uri))
        else:
            filesystem, path = _fresh(uri)
            found = [item.rstrip("/").rpartition("/")[2] for item in filesystem.ls(path, detail=False, refresh=True)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in found if name and not name.startswith(".")]


def remove(uri: str) -> None:
    """A file or a folder with all in it; nothing happens where there is none."""
    if is_local(uri):
        target = local_path(uri)
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)
        return
    filesystem, path = _fresh(uri)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


def upload(folder: Path, uri: str) -> None:
    """The files of a local folder, as a folder of the storage. Not atomic: mark it as whole with a file of its own."""
    transfer = Transfer(f"uploading {_last(uri)}")
    if is_local(uri):
        _copy(folder, local_path(uri), transfer)
        return
    filesystem, path = _fresh(uri)
    for item in sorted(folder.rglob("*")):
        if item.is_file():
            where = f"{path}/{item.relative_to(folder).as_posix()}"
            filesystem.put_file(str(item), where, callback=_reporting(transfer))


def download(uri: str, folder: Path) -> None:
    """The files of a folder of the storage into a local one; none where there is no such folder."""
    transfer = Transfer(f"downloading {_last(uri)}")
    if is_local(uri):
        if local_path(uri).exists():
            _copy(local_path(uri), folder, transfer)
        return
    filesystem, path = _fresh(uri)
    for item in filesystem.find(path) if filesystem.exists(path) else []:
        if item.rstrip("/") == path.rstrip("/"):  # a folder's own mark, which some servers keep
            continue
        target = folder / item[len(path) :].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        filesystem.get_file(item, str(target), callback=_reporting(transfer))


def _last(uri: str) -> str:
    return str(uri).rstrip("/").rpartition("/")[2]


def _copy(source: Path, target: Path, transfer: Transfer) -> None:
    def copy(one: str, other: str) -> None:
        shutil.copy2(one, other)
        transfer.moved(os.path.getsize(other))

    shutil.copytree(source, target, copy_function=copy, dirs_exist_ok=True)


def _reporting(transfer: Transfer) -> Any:
    """fsspec's callback of one file."""
    from fsspec.callbacks import Callback

    class Reporting(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            transfer.moved(inc)

    return Reporting()


_filesystems: dict[tuple[str, ...], Any] = {}
_in_turn = threading.Lock()  # creators in fsspec's memory://, which looks first and writes afterwards


def open_filesystem(uri: str) -> tuple[Any, str]:
    """The file system, one per server and credentials in the environment, and the path in it."""
    import fsspec

    protocol = uri.partition("://")[0]
    names = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE")
    key = (protocol, str(os.getpid()), *(os.environ.get(name, "") for name in (*names, "AWS_DEFAULT_REGION")))
    if key not in _filesystems:
        _filesystems[key] = fsspec.core.url_to_fs(uri, skip_instance_cache=True)[0]
    filesystem = _filesystems[key]
    return filesystem, filesystem._strip_protocol(uri)


def _fresh(uri: str) -> tuple[Any, str]:
    """The file system without its cached listing of the path's folder, and the path."""
    filesystem, path = open_filesystem(uri)
    filesystem.invalidate_cache(path.rpartition("/")[0])
    return filesystem, path
