"""What workers, controllers and trial drivers want the user to read: small files beside the study, shown by its driver.

Nothing else connects a worker on some node with the terminal where the sweep was started; the storage is what all of
them reach. Losing an event loses a line of text and nothing more.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

from svgan.errors import one_line
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
    """Put a line where the driver and `python -m sweeps status` read it. Never raises: things are failing already."""
    now = time.time()
    text = one_line(text, 500)
    log.warning("trial %s: %s", trial, text)
    try:
        study_files.write(
            study_files.place(plan, FOLDER, f"{now:017.6f}-{uuid.uuid4().hex[:6]}.json"),
            json.dumps({"time": now, "trial": trial, "text": text}).encode(),
        )
    except study_files.ERRORS as error:
        log.warning("this event could not be kept: %s", error)


def told(plan: Plan, after: str = "") -> dict[str, Event]:
    """Events by file name, oldest first, those named later than `after` alone."""
    found = {}
    for name in sorted(study_files.names(study_files.place(plan, FOLDER))):
        content = (
            study_files.read(study_files.place(plan, FOLDER, name)) if name > after and name.endswith(".json") else None
        )
        if content:
            fields = json.loads(content)
            found[name] = Event(float(fields["time"]), fields["trial"], str(fields["text"]))
    return found
