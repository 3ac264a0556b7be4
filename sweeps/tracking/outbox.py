"""Writes that MLflow could not take yet: entries in the study's storage, in order, until they are sent.

An entry is a folder `<storage>/<study>/outbox/<trial>/<place>-<kind>-<own>` with `entry.json`, written last, and the
files that belong to it. Entries go out in the order of their places, whoever wrote them. One process at a time sends
those of a trial (`claim.Claim`). An entry is removed only after it was sent, so one that was sent by a process that
died is sent again, which changes nothing (`sender.Sender`).
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from svgan.io import storage
from sweeps.storage import study_files
from sweeps.storage.claim import Claim

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

FOLDER, CLAIMS, ENTRY, FILES = "outbox", "claims", "entry.json", "files"


class Entry(NamedTuple):
    """kind: a method of `sender.Sender`; fields: its arguments as JSON; files: a folder that belongs to it."""

    kind: str
    fields: dict[str, Any]
    files: Path | None = None


class Applies(Protocol):
    """What takes entries: `sender.Sender`, or its end of the relay."""

    def apply(self, entry: Entry) -> None: ...


class Outbox:
    """The waiting entries of one trial."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.where = study_files.place(plan, FOLDER, f"{number:06d}")
        self.claim = Claim(study_files.place(plan, CLAIMS, f"{FOLDER}-{number:06d}"))

    def names(self) -> list[str]:
        """The names of whole entries, oldest first."""
        return [name for name in sorted(storage.names(self.where)) if storage.exists(f"{self.where}/{name}/{ENTRY}")]

    def put(self, entry: Entry) -> None:
        """Add an entry. Raises one of storage.ERRORS if the storage cannot take it either."""
        where = f"{self.where}/{self._place():020d}-{entry.kind}-{uuid.uuid4().hex[:8]}"
        if entry.files is not None:
            storage.upload(entry.files, f"{where}/{FILES}")
        storage.write(f"{where}/{ENTRY}", json.dumps({"kind": entry.kind, "fields": entry.fields}).encode())

    def _place(self) -> int:
        """A place behind every waiting entry, also behind those of a machine whose clock is ahead."""
        last = max((int(name.partition("-")[0]) for name in storage.names(self.where)), default=0)
        return max(time.time_ns(), last + 1)

    def send(self, connect: Callable[[], Applies], wait: bool = False) -> int | None:
        """Apply the entries in order, and remove each that succeeded; return their number, None where another process
        sends them. Raises what `connect` and its result raise, and storage.ERRORS.

        connect: called once the entries are this process's to send, so that it sees what others have sent. wait: until
        the other has sent its last entry, or is known to be dead.
        """
        with self.claim.taken(wait) as own:
            if not own:
                return None
            done, receiver = set[str](), None
            while names := [name for name in self.names() if name not in done]:
                receiver = receiver or connect()
                for name in names:
                    if not self.claim.held:
                        return None
                    self._send(name, receiver)
                    done.add(name)
            return len(done)

    def _send(self, name: str, receiver: Applies) -> None:
        kept = json.loads(storage.read(f"{self.where}/{name}/{ENTRY}") or b"null")
        if kept is None:
            return
        with tempfile.TemporaryDirectory(prefix="svgan-outbox-") as folder:
            storage.download(f"{self.where}/{name}/{FILES}", Path(folder))
            receiver.apply(Entry(kept["kind"], kept["fields"], Path(folder)))
        storage.remove(f"{self.where}/{name}")


def waiting(plan: Plan) -> dict[int, int]:
    """The number of waiting entries, by trial."""
    numbers = [int(name) for name in storage.names(study_files.place(plan, FOLDER)) if name.isdigit()]
    counts = {number: len(Outbox(plan, number).names()) for number in sorted(numbers)}
    return {number: count for number, count in counts.items() if count}
