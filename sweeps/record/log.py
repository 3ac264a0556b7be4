"""The log that a study's record is kept in: files in its storage, one per entry, which are never changed.

Entry number n is the file `record/n.json`. It is created only if it is not there, so that two drivers cannot both write
it: the second one learns that it has lost the study. Every PACK entries, one file has all so far, for quick reading.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from svgan.errors import UserError
from sweeps.record.entries import Entry, from_json, to_json

PACK = 256
DIGITS = 12
PACKED = "packed-"


class Files(Protocol):
    """What the log needs of a storage; the module `svgan.io.storage` has it."""

    def create(self, uri: str, content: bytes, /) -> bool:
        """Write a file that is not there yet; False if another writer's is there."""
        ...

    def write(self, uri: str, content: bytes, /) -> None: ...

    def read(self, uri: str, /) -> bytes | None: ...

    def names(self, uri: str, /) -> list[str]: ...


class Superseded(UserError):
    """Another driver has written to the record: this one must end without writing anything more."""


class Log:
    """Reads all entries at its start; then appends. writer: a name that no other driver has."""

    def __init__(self, folder: str, files: Files, writer: str, clock: Callable[[], float] = time.time) -> None:
        self.folder, self.files, self.writer, self.clock = folder, files, writer, clock
        self.lines: list[bytes] = []

    def read(self) -> list[Entry]:
        """All entries, oldest first. Raises UserError for a record that is incomplete or of another version."""
        names = self.files.names(self.folder)
        self.lines = []
        for pack in sorted((name for name in names if name.startswith(PACKED)), reverse=True):
            self.lines = (self.files.read(f"{self.folder}/{pack}") or b"").splitlines()
            if len(self.lines) == _number(pack):
                break
            self.lines = []
        loose = sorted(_number(name) for name in names if not name.startswith(PACKED) and name.endswith(".json"))
        for number in itertools.dropwhile(lambda n: n < len(self.lines), loose):
            content = self.files.read(self._path(number))
            if number != len(self.lines) or content is None:
                raise self._broken(f"{len(self.lines):0{DIGITS}d}.json", "it is missing, and a later one is there")
            self.lines.append(content)
        return [self._entry(number, line) for number, line in enumerate(self.lines)]

    def append(self, entry: Entry) -> Entry:
        """Add an entry; when this returns, it is there for every later driver, who reads what is returned.

        Raises Superseded if another driver has added one, and what the storage raises if it cannot be written.
        """
        line = self._line(entry)
        if not self.files.create(self._path(len(self.lines)), line):
            raise self.superseded()
        self.lines.append(line)
        if len(self.lines) % PACK == 0:
            self._pack()
        return from_json(line)

    def start_with(self, entries: Iterable[Entry]) -> list[Entry]:
        """Fill an empty log, with all entries or none; return them as `read` does. Writes nothing if there are none.

        Raises Superseded if the log has become another driver's.
        """
        lines = [self._line(entry) for entry in entries]
        if lines and (self.lines or not self.files.create(self._pack_path(len(lines)), b"\n".join(lines))):
            raise self.superseded()
        self.lines = lines
        return [from_json(line) for line in lines]

    def _pack(self) -> None:
        """The single files stay: they keep a driver that is behind from writing."""
        self.files.write(self._pack_path(len(self.lines)), b"\n".join(self.lines))

    def _pack_path(self, size: int) -> str:
        return f"{self.folder}/{PACKED}{size:0{DIGITS}d}.jsonl"

    def _line(self, entry: Entry) -> bytes:
        return to_json(entry, at=round(self.clock(), 3), by=self.writer)

    def superseded(self) -> Superseded:
        """The error of a driver that another one has replaced."""
        return Superseded(
            f"{self.folder}: another driver has taken this study over; this one ends and has changed nothing since"
        )

    def _path(self, number: int) -> str:
        return f"{self.folder}/{number:0{DIGITS}d}.json"

    def _entry(self, number: int, line: bytes) -> Entry:
        try:
            return from_json(line)
        except ValueError as error:
            raise self._broken(f"{number:0{DIGITS}d}.json", str(error)) from None

    def _broken(self, name: str, why: str) -> UserError:
        return UserError(
            f"{self.folder}/{name}: {why}; restore that file from a backup or a version of the bucket, or start the "
            "study anew under another --name"
        )


def _number(name: str) -> int:
    digits = name.removeprefix(PACKED).partition(".")[0]
    return int(digits) if digits.isdigit() else -1
