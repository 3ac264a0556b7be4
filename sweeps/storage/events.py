"""Messages of workers, controllers and trial drivers to the user: small files beside the study, shown by its driver.

The storage is the only thing that a worker on any node shares with the terminal where the study was started. A lost
event is a lost line of text and nothing more.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Container
from typing import TYPE_CHECKING, NamedTuple

from svgan.errors import one_line
from svgan.io import storage
from sweeps.storage import study_files

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

log = logging.getLogger(__name__)
FOLDER = "events"


class Event(NamedTuple):
    """time: seconds since the epoch. trial: its number, None for the study."""

    time: float
    trial: int | None
    text: str

    def __str__(self) -> str:
        who = "" if self.trial is None else f"trial {self.trial}: "
        return f"{time.strftime('%H:%M:%S', time.localtime(self.time))} {who}{self.text}"


def tell(plan: Plan, trial: int | None, text: str) -> None:
    """Write a line for the driver and `python -m sweeps status`. Never raises, because something is failing already."""
    now = time.time()
    text = one_line(text, 500)
    log.warning("trial %s: %s", trial, text)
    try:
        storage.write(
            study_files.place(plan, FOLDER, f"{now:017.6f}-{uuid.uuid4().hex[:6]}.json"),
            json.dumps({"time": now, "trial": trial, "text": text}).encode(),
        )
    except storage.ERRORS as error:
        log.warning("this event could not be kept: %s", error)


def read(plan: Plan, known: Container[str] = ()) -> dict[str, Event]:
    """Events by file name, in the order of their stamps; without those whose names are known.

    The clocks of nodes differ, so that an event may come with an earlier stamp than one that was read before.
    """
    found = {}
    for name in sorted(storage.names(study_files.place(plan, FOLDER))):
        if name in known or not name.endswith(".json"):
            continue
        if content := storage.read(study_files.place(plan, FOLDER, name)):
            fields = json.loads(content)
            found[name] = Event(float(fields["time"]), fields["trial"], str(fields["text"]))
    return found
