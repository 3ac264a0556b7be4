"""Files of one folder, on a local disk or behind any fsspec URL (`s3://bucket/prefix`, ...).

botocore reads AWS_ENDPOINT_URL and the AWS credentials from the environment, so an S3 server of one's own needs
no setting here. A set of files is published whole: a local folder by one rename, a remote one with its marker
file last.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svgan.errors import UserError


def join(uri: str, name: str) -> str:
    return f"{str(uri).rstrip('/')}/{name}"


def is_local(uri: str) -> bool:
    return "://" not in str(uri) or str(uri).startswith("file://")


def local_path(uri: str) -> Path:
    return Path(str(uri).removeprefix("file://")).expanduser()


def read(uri: str) -> bytes | None:
    """The file's bytes, None where there is no such file. Raises UserError when the storage cannot be read."""
    with _storage_errors(uri, "read"):
        try:
            if is_local(uri):
                return local_path(uri).read_bytes()
            filesystem, path = _open(uri)
            return filesystem.cat_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return None


@contextmanager
def published(uri: str, *, last: str) -> Iterator[Path]:
    """A local scratch folder whose files appear under `uri` when the block ends well, file `last` after all others.

    When the block fails, or the upload does, nothing is left under `uri`. Raises UserError when `uri` is taken.
    """
    if read(join(uri, last)) is not None:
        raise UserError(f"{uri}: already holds a {last}; give another place, or remove it first")
    if is_local(uri):
        with _publish_local(local_path(uri)) as scratch:
            yield scratch
    else:
        with tempfile.TemporaryDirectory(prefix="svgan-") as folder:
            yield Path(folder)
            _upload(Path(folder), uri, last)


@contextmanager
def _publish_local(target: Path) -> Iterator[Path]:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: exists and is not an empty folder; give another place")
    with _storage_errors(str(target), "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        yield scratch
        scratch.chmod(0o777 & ~_umask())
        with _storage_errors(str(target), "write"):
            os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _upload(folder: Path, uri: str, last: str) -> None:
    names = sorted(p.name for p in folder.iterdir() if p.name != last)
    sent: list[str] = []
    with _storage_errors(uri, "write"):
        filesystem, root = _open(uri)
        try:
            for name in [*names, last]:
                sent.append(join(root, name))
                filesystem.pipe_file(sent[-1], (folder / name).read_bytes())
        except BaseException:
            for path in sent:
                if filesystem.exists(path):
                    filesystem.rm_file(path)
            raise


def _open(uri: str) -> tuple[Any, str]:
    import fsspec

    return fsspec.core.url_to_fs(uri, skip_instance_cache=True)


@contextmanager
def _storage_errors(uri: str, verb: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, (OSError, ImportError, ValueError, *_botocore_errors())):
            raise
        remedy = "check the path" if is_local(uri) else "check the URL, the credentials and AWS_ENDPOINT_URL"
        raise UserError(f"{uri}: cannot {verb} ({_one_line(error)}); {remedy}") from error


def _botocore_errors() -> tuple[type[Exception], ...]:
    module = sys.modules.get("botocore.exceptions")
    return (module.BotoCoreError, module.ClientError) if module else ()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
