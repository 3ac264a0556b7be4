"""Report the bytes of transfers while they move, to whoever would otherwise take a long transfer for a hang.

A worker's watchdog listens (`sweeps.trial.watchdog`). Without a listener, a report costs nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

Listener = Callable[[str, int], None]  # what is transferred, and its bytes so far
_listeners: list[Listener] = []


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Call `listener` for all transfers of this process, from whichever thread makes them."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Transfer:
    """One transfer. what: as shown to the user, as in 'downloading codes'."""

    def __init__(self, what: str) -> None:
        self.what, self.bytes = what, 0

    def moved(self, count: int) -> None:
        """Report that `count` more bytes have moved; with 0, that the other side has answered."""
        self.bytes += count
        for listener in tuple(_listeners):
            listener(self.what, self.bytes)
