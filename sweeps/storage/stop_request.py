"""Stop a study so that nothing is lost.

A stop request is a file in the study's storage. Workers look for it every few seconds, agree on a step, save their
whole state there and end. The driver starts no more trials and waits for them. `python -m sweeps stop`, the first
Ctrl-C, and a driver with a reason of its own all do no more than write that file.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.io import storage
from sweeps.storage import study_files
from sweeps.storage.paths import is_remote

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

STOP = "stop"


def request(plan: Plan) -> None:
    """Request a stop. Raises UserError if the storage cannot be written."""
    try:
        storage.write(study_files.place(plan, STOP), str(time.time()).encode())
    except storage.ERRORS as error:
        raise UserError(f"{plan.name}: the stop cannot be written to {plan.output.storage} ({error})") from None


def requested(plan: Plan) -> bool:
    """Whether a stop was requested; False while the storage cannot be read."""
    try:
        return storage.exists(study_files.place(plan, STOP))
    except storage.ERRORS:
        return False


def clear(plan: Plan) -> None:
    storage.remove(study_files.place(plan, STOP))


class StopWatch:
    """Look for a stop request now and then: every second on a disk, every five behind a URL."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.every = plan, 5.0 if is_remote(plan.output.storage) else 1.0
        self.next, self.stopping, self.why = 0.0, False, ""

    def stop(self, why: str) -> None:
        """Stop for the driver's own reason, even if the storage cannot be reached."""
        self.stopping, self.why = True, self.why or why

    def __call__(self) -> bool:
        if not self.stopping and time.monotonic() >= self.next:
            self.stopping = requested(self.plan)
            self.next = time.monotonic() + self.every
        return self.stopping


@contextlib.contextmanager
def interruptible(plan: Plan) -> Iterator[None]:
    """The first Ctrl-C requests a stop, and the block runs to its end. The second raises KeyboardInterrupt at once."""
    before = signal.getsignal(signal.SIGINT)

    def first(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print(
            "\nstopping: running trials keep their state first (Ctrl-C again to leave at once, still resumable)",
            file=sys.stderr,
            flush=True,
        )
        request(plan)

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
