"""Signs of life: what a trial does at the moment, in a small file of the study's storage, which its driver reads.

A sign counts movements (steps, scored clips, transferred bytes). Whoever reads it compares counts only, never the
clocks of two machines. A lost sign does no harm: the next one follows after `interval`.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

from svgan.io import storage
from sweeps.storage import study_files

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

FOLDER, STUDY, STEP = "life", "study", "step"
# A tenth of --patience, so that no movement stays unseen for long; at most this, so that tables are fresh. On S3 it
# costs a cent a day for each running trial.
SIGN_SECONDS = 30.0


class Sign(NamedTuple):
    """One sign. start: the process that moves; moves: its movements so far, which only grow.

    what, done, total: what it does, as in ('step', 120, 1700), ('generated clips', 12, 64) or, in bytes without a
    total, ('uploading state', 12000000, 0). waits: it does nothing, but waits for a node, as `what` says.
    """

    start: str
    moves: int
    what: str
    done: int = 0
    total: int = 0
    waits: bool = False

    def __str__(self) -> str:
        if self.total:
            return f"{self.what} {self.done} of {self.total}"
        return f"{self.what}: {self.done / 1e6:.0f} MB" if self.done else self.what

    @property
    def share(self) -> str:
        """The short form for a table's cell, as in '12/64'; '' without a total."""
        return f"{self.done}/{self.total}" if self.total else ""


def interval(plan: Plan) -> float:
    """Seconds between two signs of a process, and between two looks at them."""
    return min(SIGN_SECONDS, 6 * plan.compute.patience)


def leave(plan: Plan, number: int | None, sign: Sign) -> None:
    """Write a trial's sign in place of its last one. number: None for the study's own. Raises one of storage.ERRORS."""
    storage.write(_place(plan, number), json.dumps(sign._asdict()).encode())


def read(plan: Plan, number: int | None) -> Sign | None:
    """A trial's last sign, None if there is none, or one of another version. Raises one of storage.ERRORS."""
    content = storage.read(_place(plan, number))
    with contextlib.suppress(ValueError, TypeError):
        return Sign(**json.loads(content)) if content else None
    return None


def forget(plan: Plan, number: int | None) -> None:
    """Remove a trial's sign. number: None for the study's own."""
    storage.remove(_place(plan, number))


def clear(plan: Plan) -> None:
    """Remove all signs of the study."""
    storage.remove(study_files.place(plan, FOLDER))


class StudySigns:
    """A progress function (stage, done, total) for work of the study itself, as its promotion.

    It leaves the study's sign, at most one per `interval`, and prints a line every --patience.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.start, self.count = plan, uuid.uuid4().hex[:12], 0
        self.next_sign, self.next_line = 0.0, time.monotonic() + 60 * plan.compute.patience

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.count += 1
        now, sign = time.monotonic(), Sign(self.start, self.count, stage, done, total)
        if now >= self.next_line:
            print(sign, flush=True)
            self.next_line = now + 60 * self.plan.compute.patience
        if now >= self.next_sign:
            with contextlib.suppress(*storage.ERRORS):
                leave(self.plan, None, sign)
            self.next_sign = now + interval(self.plan)


def _place(plan: Plan, number: int | None) -> str:
    return study_files.place(plan, FOLDER, f"{STUDY if number is None else f'{number:06d}'}.json")
