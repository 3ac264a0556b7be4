"""A follower whose system may be away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

from sweeps.record.core import Follower
from sweeps.record.entries import Entry
from sweeps.record.state import StudyState

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds: a restart of a database takes some; more often would be noise


class PatientFollower:
    """Tries again with growing pauses while the inner follower fails; after `patience` seconds, asks for a stop.

    The record has everything meanwhile, so that one reconciliation brings the system up to date. errors: those of a
    system that is away. tell: called with a line when it goes away and when it is back. stop: called with a reason.
    """

    def __init__(
        self,
        inner: Follower,
        *,
        errors: tuple[type[Exception], ...],
        name: str,
        patience: float,
        tell: Callable[[str], None],
        stop: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner, self.errors, self.name, self.patience = inner, errors, name, patience
        self.tell, self.stop, self.clock = tell, stop, clock
        self.away_since: float | None = None
        self.pause, self.retry_at = FIRST_PAUSE, 0.0

    def follow(self, entry: Entry, state: StudyState) -> None:
        if self.away_since is not None:
            if self.clock() >= self.retry_at:
                self.reconcile(state)
            return
        try:
            self.inner.follow(entry, state)
        except self.errors as error:
            self._away(error)

    def reconcile(self, state: StudyState) -> list[str]:
        try:
            mended = self.inner.reconcile(state)
        except self.errors as error:
            self._away(error)
            return []
        if self.away_since is not None:
            self.tell(f"{self.name} is back and has everything")
        self.away_since, self.pause = None, FIRST_PAUSE
        return mended

    def _away(self, error: Exception) -> None:
        now, line = self.clock(), str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {line[0][:200] if line else 'no message'}"
        if self.away_since is None:
            self.away_since = now
            self.tell(f"{self.name} cannot be used, so the study goes on without it and tries again ({reason})")
        self.retry_at, self.pause = now + self.pause, min(2 * self.pause, LONGEST_PAUSE)
        if now - self.away_since > self.patience:
            self.stop(f"{self.name} cannot be used for {(now - self.away_since) / 60:.0f} min ({reason})")
