"""When the next checkpoint between two reports is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

LOOP_SHARE = 0.02  # of the loop's time that checkpoints between reports may take
LOOK_SECONDS = 0.05  # between two looks at a folder of this machine


def interval(minutes: float, held: float) -> float:
    """Seconds from the end of one checkpoint to the next.

    minutes: as asked (`--checkpoint-minutes`). held: seconds for which the last checkpoint held the loop. A large model
    waits longer than asked, so that held / (held + interval) is at most LOOP_SHARE.
    """
    return max(60 * minutes, held * (1 - LOOP_SHARE) / LOOP_SHARE)


class CheckpointTimer:
    """The time since a trial's last checkpoint, whether of a report or between two.

    minutes: 0 is never. A checkpoint is due only when the one before it has been uploaded.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.minutes, self.clock = minutes, clock
        self.held = 0.0
        self.last: float | None = None  # begins when it is first asked, at the first step
        self.folder: Path | None = None

    def due(self) -> bool:
        now = self.clock()
        self.last = now if self.last is None else self.last
        passed = now - self.last
        return self.minutes > 0 and passed >= interval(self.minutes, self.held) and not self.uploading()

    def uploading(self) -> bool:
        return self.folder is not None and self.folder.exists()

    def restart(self) -> None:
        """A report has kept the state."""
        self.last = self.clock()

    def kept(self, held: float, folder: Path) -> None:
        """A checkpoint between two reports has just held the loop for so many seconds. folder: it is there until it is
        uploaded, when Ray removes it."""
        self.held, self.folder = held, folder
        self.restart()

    def settle(self) -> None:
        """Wait until nothing is being uploaded. An upload that fails ends this process."""
        while self.uploading():
            time.sleep(LOOK_SECONDS)
