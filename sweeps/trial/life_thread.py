"""A thread beside a worker's training that exchanges signs of life through the study's storage."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from svgan.io import storage
from sweeps.storage import life

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan
    from sweeps.trial.watchdog import Watchdog


class LifeThread:
    """Rank 0 leaves its signs for the driver, at most one per `life.interval`. The other ranks read them.

    Rank 0 alone validates, uploads and logs. Meanwhile the others wait in a collective, and make no step. As long as
    rank 0 moves, their watchdogs must not take that for a hang.
    """

    def __init__(self, plan: Plan, number: int, rank: int, watchdog: Watchdog) -> None:
        self.plan, self.number, self.watchdog, self.interval = plan, number, watchdog, life.interval(plan)
        self.look = self._leave if rank == 0 else self._read
        self.known: tuple[str, int] | None = None  # start and moves of the last sign left or read
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, name="svgan-life", daemon=True)

    def __enter__(self) -> LifeThread:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()

    def _run(self) -> None:
        while not self.over.wait(self.interval):
            with contextlib.suppress(*storage.ERRORS):
                self.look()

    def _leave(self) -> None:
        sign = self.watchdog.sign
        if (sign.start, sign.moves) != self.known:
            life.leave(self.plan, self.number, sign)
            self.known = sign.start, sign.moves

    def _read(self) -> None:
        if time.monotonic() - self.watchdog.last < self.interval:
            return
        sign = life.read(self.plan, self.number)
        now = None if sign is None or sign.waits else (sign.start, sign.moves)
        if now and self.known and now != self.known:
            self.watchdog.moved_elsewhere()
        self.known = now or self.known
