"""Stop a study so that nothing is lost.

A stop request is a file in the study's storage. Workers look for it every few seconds, agree on a step, save their
whole state there and end. The driver starts no more trials and waits for them. `python -m sweeps stop`, the first
Ctrl-C or SIGTERM, and a driver with a reason of its own all do no more than write that file.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from svgan.errors import UserError
from svgan.io import storage
from svgan.termination import Terminated
from sweeps.storage import study_files
from sweeps.storage.paths import is_remote

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

STOP = "stop"
# Between two looks for a request: what a stop waits for at most. A request to S3 costs a loop 10 to 50 ms.
LOOK_SECONDS, REMOTE_LOOK_SECONDS = 1.0, 5.0
NOTICE_SECONDS = 1.0  # `timeout` and `srun` send SIGTERM twice at once: to the process and to its group


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
        self.plan, self.every = plan, REMOTE_LOOK_SECONDS if is_remote(plan.output.storage) else LOOK_SECONDS
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
    """The first Ctrl-C or SIGTERM requests a stop, and the block runs to its end. The next one raises at once.

    Raises Terminated in place of a KeyboardInterrupt of the block if SIGTERM came. SIGTERMs less than NOTICE_SECONDS
     after the first one count as the first. Enter this after `ray.init`, which sets handlers of its own.
    """
    signals = Signals(plan)
    before = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        if signals.terminated:
            raise Terminated from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class Signals:
    """The handler of SIGINT and SIGTERM of `interruptible`. terminated: whether SIGTERM came."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.first, self.terminated = plan, 0.0, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        terminate, again = number == signal.SIGTERM, self.terminated
        self.terminated |= terminate
        if not self.first:
            self.first = time.monotonic()
            how = "SIGTERM" if terminate else "Ctrl-C"
            print(
                f"\nstopping: running trials keep their state first ({how} again to leave at once, still resumable)",
                file=sys.stderr,
                flush=True,
            )
            request(self.plan)
        elif not (terminate and again and time.monotonic() - self.first < NOTICE_SECONDS):
            raise KeyboardInterrupt
