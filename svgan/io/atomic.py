"""Files and folders that are there whole or not at all, with the rights that the umask leaves to new ones."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from svgan.errors import UserError, one_line


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it takes the place of `path` when the block ends well, else it is removed.

    Folders above are made. safetensors closes its files to others; here they get every new file's rights. Raises
    OSError, and whatever the block raises.
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


def folder_beside(path: Path) -> Path:
    """A new folder next to `path`, to be renamed to it, as open as any (tempfile's are not). Folders above are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _beside(path)
    aside.mkdir()
    return aside


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn what a full or broken disk raises while `place` is written into a UserError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(f"{place}: cannot write ({one_line(error)}); make room, and give the command again") from error


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
