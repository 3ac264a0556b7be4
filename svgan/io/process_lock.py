"""A lock that one process holds while it lives, in a file that names its holder.

The kernel frees the lock when the process ends, however it ends. The file stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, lock_descriptor

# `is_held` takes the lock for an instant. Only a lock that stays taken for longer has a holder.
LOOK_SECONDS, HOLD_SECONDS = 0.1, 1.0


@contextlib.contextmanager
def hold(path: Path, holder: str) -> Iterator[None]:
    """Hold the lock and write `holder` into its file. Raises filelock.Timeout where another process holds it."""

    def write_holder(descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)

    with FileLock(path, HOLD_SECONDS, fallback_to_soft=False, on_acquired=write_holder):
        yield


def is_held(path: Path) -> bool:
    """Whether a process of this machine holds the lock. On NFS, who may not write the file gets True."""
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        return False
    until = time.monotonic() + LOOK_SECONDS
    try:
        while not lock_descriptor(descriptor, blocking=False):
            if time.monotonic() > until:
                return True
            time.sleep(0.01)
    except OSError as error:
        if error.errno == errno.EBADF:  # NFS locks only what is open for writing
            return True
        raise
    finally:
        os.close(descriptor)
    return False


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return os.open(path, os.O_RDONLY)
