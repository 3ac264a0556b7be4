"""SIGTERM, which SLURM, Kubernetes, systemd and clouds send before they kill, heeded as Ctrl-C is."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143  # exit codes: 128 and the signal's number, as shells give them


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Code that handles Ctrl-C handles this too."""


def exit_code(error: KeyboardInterrupt) -> int:
    return TERMINATED if isinstance(error, Terminated) else INTERRUPTED


def described(error: KeyboardInterrupt) -> str:
    return "terminated" if isinstance(error, Terminated) else "interrupted"


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """SIGTERM raises Terminated in the main thread while the block runs. In another thread, this does nothing: Python
    lets only the main one set a handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
