"""Writes that MLflow could not take yet: entries in the study's storage, in order, until they are sent.

An entry is a folder `<storage>/<study>/outbox/<trial>/<time>-<kind>` with `entry.json`, written last, and the files
that belong to it. Sending an entry twice does no harm (`sender.Sender`), so it is removed only after it was sent.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from svgan.io import storage
from sweeps.storage import study_files

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

FOLDER, ENTRY, FILES = "outbox", "entry.json", "files"


class Entry(NamedTuple):
    """kind: a method of `sender.Sender`; fields: its arguments as JSON; files: a folder that belongs to it."""

    kind: str
    fields: dict[str, Any]
    files: Path | None = None


class Outbox:
    """The waiting entries of one trial."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.where = study_files.place(plan, FOLDER, f"{number:06d}")

    def names(self) -> list[str]:
        """The names of whole entries, oldest first."""
        return [name for name in sorted(storage.names(self.where)) if storage.exists(f"{self.where}/{name}/{ENTRY}")]

    def put(self, entry: Entry) -> None:
        """Add an entry. Raises one of storage.ERRORS if the storage cannot take it either."""
        where = f"{self.where}/{time.time_ns():020d}-{entry.kind}"
        if entry.files is not None:
            storage.upload(entry.files, f"{where}/{FILES}")
        storage.write(f"{where}/{ENTRY}", json.dumps({"kind": entry.kind, "fields": entry.fields}).encode())

    def send(self, apply: Callable[[Entry], None]) -> int:
        """Apply the entries in order, and remove each that succeeded; return their number. Raises what apply raises."""
        sent = 0
        for name in self.names():
            kept = json.loads(storage.read(f"{self.where}/{name}/{ENTRY}") or b"null")
            if kept is None:
                continue
            with tempfile.TemporaryDirectory(prefix="svgan-outbox-") as folder:
                storage.download(f"{self.where}/{name}/{FILES}", Path(folder))
                apply(Entry(kept["kind"], kept["fields"], Path(folder)))
            storage.remove(f"{self.where}/{name}")
            sent += 1
        return sent


def waiting(plan: Plan) -> dict[int, int]:
    """The number of waiting entries, by trial."""
    numbers = [int(name) for name in storage.names(study_files.place(plan, FOLDER)) if name.isdigit()]
    counts = {number: len(Outbox(plan, number).names()) for number in sorted(numbers)}
    return {number: count for number, count in counts.items() if count}
