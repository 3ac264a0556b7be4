"""A thread that kills its process if nothing moves in it for too long: no step, no scored clip, no byte of a transfer.

A process that hangs in a collective, a driver call or a file system never raises, and Ray Train sees only that it is
alive. Once it is dead, Ray Train restarts the workers from the checkpoint. A process that is frozen as a whole cannot
watch itself; Ray Train's health check has the same limit (`controller.environment`).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from types import FrameType

from sweeps.storage.life import Sign
from sweeps.storage.repeating import Repeating

LOOK_SECONDS = 1.0  # between two looks; a kill that comes a second late costs nothing


class Watchdog(Repeating):
    """Call `beat` at every movement. After `limit` seconds without one, `tell` a line that says who hangs where, then
    SIGKILL. `sign` is the last movement, for the trial's sign of life.
    """

    def __init__(self, limit: float, who: str, tell: Callable[[str], None]) -> None:
        super().__init__("svgan-pulse", min(LOOK_SECONDS, limit / 4))
        self.limit, self.who, self.tell = limit, who, tell
        self.watched = threading.get_ident()
        self.last = time.monotonic()
        self.sign = Sign(uuid.uuid4().hex[:12], 0, "starting")

    def __enter__(self) -> Watchdog:
        self.beat("starting")
        return super().__enter__()

    def beat(self, what: str, done: int = 0, total: int = 0) -> None:
        """Record a movement (`life.Sign`), from any thread. A transfer has no total: `done` are its bytes."""
        self.sign = Sign(self.sign.start, self.sign.moves + 1, what, done, total)
        self.last = time.monotonic()

    def moved_elsewhere(self) -> None:
        """Record that another process, for which this one waits, moves."""
        self.last = time.monotonic()

    def again(self) -> None:
        still = time.monotonic() - self.last
        if still > self.limit:
            self.tell(
                f"{self.who} (process {os.getpid()} on {socket.gethostname()}) made no step for {still:.0f} s, "
                f"last seen in {place(sys._current_frames().get(self.watched))}; killed, to be started again"
            )
            os.kill(os.getpid(), signal.SIGKILL)


def place(frame: FrameType | None) -> str:
    """'file.py:line function' of the innermost frame of our own code, and of the innermost frame of all."""
    inner = frame
    while frame is not None and f"{os.sep}site-packages{os.sep}" in frame.f_code.co_filename:
        frame = frame.f_back
    shown = [_named(one) for one in (frame, inner if inner is not frame else None) if one is not None]
    return ", in ".join(shown) or "a place unknown"


def _named(frame: FrameType) -> str:
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}"
