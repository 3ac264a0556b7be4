"""Something that is done again and again in a thread of its own."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self


class Repeating:
    """Calls `again` every so many seconds, in a daemon thread, while a `with` block runs. Subclasses define `again`.

    It ends with the block, or when `over` is set.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self.seconds, self.over = seconds, threading.Event()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def again(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()

    def _run(self) -> None:
        while not self.over.wait(self.seconds):
            self.again()
