"""A claim in the storage: one process at a time does a piece of work, on any machine.

A claim is a file that its holder creates and nobody else could have created (`storage.create`), and rewrites every few
seconds with a number that grows. Whoever finds a claim watches that number by a clock of its own, so no two machines'
clocks are compared. A claim that has not moved for EXPIRES seconds belongs to a dead process. Whoever takes it over
creates the claim of the next number, so of several that find it dead one succeeds. The claim with the highest number
counts.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from svgan.io import storage

BEATS = 5.0  # seconds between two beats: one small write, a thousandth of what an S3 server takes in that time
EXPIRES = 30.0  # seconds without a beat: six are missed, which neither a busy machine nor a retried request explains
LOOKS = 0.5  # seconds between two looks of one who waits: a short flush takes as long


class Claim:
    """The claim on one piece of work, at one address.

    An instance remembers what it has seen of another's claim, so it must be asked again to find out that the holder is
    dead.
    """

    def __init__(self, where: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.where, self.clock, self.own = where, clock, ""
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
        self.seen: tuple[str, bytes | None] = ("", None)
        self.since = self.confirmed = 0.0
        self.beats = 0
        self.over, self.beating = threading.Event(), threading.Lock()

    def take(self) -> bool:
        """Take the claim if nobody alive holds it. Raises one of storage.ERRORS."""
        found = self._names()
        newest, number = (found[-1], int(found[-1])) if found else ("", 0)
        content = storage.read(f"{self.where}/{newest}") if newest else None
        if newest and (content is None or not self._dead(newest, content)):
            return False
        own, began = f"{number + 1:06d}", self.clock()
        if not storage.create(f"{self.where}/{own}", self._content()):
            return False
        # Between the look and the creation, others may have come and gone, and the numbers may have begun anew.
        if self._names() != [*found, own] or (newest and storage.read(f"{self.where}/{newest}") != content):
            storage.remove(f"{self.where}/{own}")
            return False
        for name in found:
            storage.remove(f"{self.where}/{name}")
        self.own, self.confirmed, self.over = own, began, threading.Event()
        threading.Thread(target=self._beats, args=(self.over,), daemon=True).start()
        return True

    def wait(self) -> None:
        """Take the claim as soon as its holder releases it or is known to be dead. Raises one of storage.ERRORS."""
        while not self.take():
            time.sleep(LOOKS)

    @property
    def held(self) -> bool:
        """Whether this process may go on: nobody can have found its claim dead."""
        return bool(self.own) and not self.over.is_set() and self.clock() - self.confirmed < EXPIRES / 2

    def release(self) -> None:
        """Give the claim back. Where the storage cannot be written, it expires."""
        self.over.set()
        with self.beating, suppress(*storage.ERRORS):
            own, self.own = self.own, ""
            if own:
                storage.remove(f"{self.where}/{own}")

    @contextmanager
    def taken(self, wait: bool = False) -> Iterator[bool]:
        """Whether the claim was taken, for the block. wait: until it is."""
        if wait:
            self.wait()
        try:
            yield self.held or self.take()
        finally:
            self.release()

    def _names(self) -> list[str]:
        return sorted(name for name in storage.names(self.where) if name.isdigit())

    def _dead(self, name: str, content: bytes) -> bool:
        """Whether this claim has stood still for EXPIRES seconds before this instance's eyes."""
        if (name, content) != self.seen:
            self.seen, self.since = (name, content), self.clock()
        return self.clock() - self.since >= EXPIRES

    def _content(self) -> bytes:
        return json.dumps({"holder": self.holder, "beats": self.beats}).encode()

    def _beats(self, over: threading.Event) -> None:
        while not over.wait(BEATS):
            with suppress(*storage.ERRORS):  # `held` becomes False if that lasts
                self.beat()

    def beat(self) -> None:
        """Show that the holder lives. Raises one of storage.ERRORS."""
        with self.beating:
            began = self.clock()
            if self.over.is_set():
                return
            if self._names()[-1:] != [self.own]:
                self.over.set()  # somebody found the claim dead, perhaps because this process stood still
                return
            self.beats += 1
            storage.write(f"{self.where}/{self.own}", self._content())
            self.confirmed = began
