"""What a study's record says so far: its trials, and the points that wait. A fold over the entries."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from sweeps.record.entries import Driven, Ended, Entry, Halted, Proposed, Queued, Reported, Resumed, Warmed
from sweeps.storage.trial_outcome import Ending


@dataclasses.dataclass
class RecordedTrial:
    """A trial, as the record knows it."""

    proposal: Proposed
    reports: dict[int, float] = dataclasses.field(default_factory=dict)
    """The study's figure by step."""
    pruned: bool = False
    """Whether a rung has decided to prune it; it ends as soon as that is applied."""
    ended: Ended | None = None
    halted: Halted | None = None
    """Its last stop, if it has not begun again since."""

    @property
    def number(self) -> int:
        return self.proposal.number

    @property
    def ending(self) -> Ending | None:
        """How it ended; None if it runs or will go on."""
        return self.ended.ending if self.ended else None


class Waiting(NamedTuple):
    """A parameter point that waits for its trial. control: whether that is never pruned."""

    point: dict[str, Any]
    control: bool


class StudyState:
    """The trials in the order of their numbers, and the queue of points.

    begun: whether controls were queued. enqueued: the number of other points that were. warm: trials of another study.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.trials: list[RecordedTrial] = []
        self.queue: deque[Waiting] = deque()
        self.begun = False
        self.enqueued = 0
        self.warm: list[dict[str, Any]] = []
        self.reported: list[Reported] = []  # all reports, in the order in which they were decided
        for entry in entries:
            self.apply(entry)

    def apply(self, entry: Entry) -> None:
        """Take in one entry. Raises ValueError for one that cannot follow what is there."""
        match entry:
            case Driven():
                pass
            case Queued():
                self.begun = True
                self.enqueued += 0 if entry.control else len(entry.points)
                self.queue += [Waiting(point, entry.control) for point in entry.points]
            case Warmed():
                self.warm = self.warm + entry.trials
            case Proposed():
                if entry.number != len(self.trials):
                    raise ValueError(f"trial {entry.number} is proposed where {len(self.trials)} is next")
                if self.queue:
                    self.queue.popleft()
                self.trials.append(RecordedTrial(entry))
            case Resumed():
                self._open(entry.number).halted = None
            case Reported():
                trial = self._open(entry.number)
                trial.reports[entry.step] = entry.value
                trial.pruned = trial.pruned or entry.stop
                self.reported.append(entry)
            case Halted():
                self._open(entry.number).halted = entry
            case Ended():
                trial = self._open(entry.number)
                trial.ended, trial.halted = entry, None

    def unfinished(self) -> list[RecordedTrial]:
        return [trial for trial in self.trials if trial.ended is None]

    def _open(self, number: int) -> RecordedTrial:
        if number >= len(self.trials) or self.trials[number].ended:
            raise ValueError(f"trial {number} does not run")
        return self.trials[number]
