"""A thread beside a worker's training that exchanges signs of life through the study's storage."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from svgan.io import storage
from sweeps.storage import life
from sweeps.storage.repeating import Repeating

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan
    from sweeps.trial.watchdog import Watchdog


class LifeThread(Repeating):
    """Rank 0 leaves its signs for the driver, at most one per `life.interval`. The other ranks read them.

    Rank 0 alone validates, uploads and logs. Meanwhile the others wait in a collective, and make no step. As long as
    rank 0 moves, their watchdogs must not take that for a hang.
    """

    def __init__(self, plan: Plan, number: int, rank: int, watchdog: Watchdog) -> None:
        super().__init__("svgan-life", life.interval(plan))
        self.plan, self.number, self.watchdog = plan, number, watchdog
        self.look = self._leave if rank == 0 else self._read
        self.known: tuple[str, int] | None = None  # start and moves of the last sign left or read

    def again(self) -> None:
        with contextlib.suppress(*storage.ERRORS):
            self.look()

    def _leave(self) -> None:
        sign = self.watchdog.sign
        if (sign.start, sign.moves) != self.known:
            life.leave(self.plan, self.number, sign)
            self.known = sign.start, sign.moves

    def _read(self) -> None:
        if time.monotonic() - self.watchdog.last < self.seconds:
            return
        sign = life.read(self.plan, self.number)
        now = None if sign is None or sign.waits else (sign.start, sign.moves)
        if now and self.known and now != self.known:
            self.watchdog.moved_elsewhere()
        self.known = now or self.known
