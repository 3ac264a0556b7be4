"""The lease that a study's driver holds in the study's storage, for drivers on other hosts to see.

The driver writes a counter every BEAT seconds. Another host that wants the study watches whether the counter moves;
no clocks are compared. The lease is a courtesy: what keeps two drivers apart is the record, which only one can extend.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.io import storage
from sweeps.storage import driver_lock, study_files
from sweeps.storage.repeating import Repeating

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

LEASE = "driver.json"
BEAT_SECONDS = 20.0  # a request of some milliseconds each: nothing beside a study's other traffic
MISSED_BEATS = 2.5  # one may be late by a slow request


class Lease(Repeating):
    """Held by one driver, whose name no other driver has. lost: whether another driver has taken it."""

    def __init__(self, plan: Plan, driver: str) -> None:
        self.place, self.driver = study_files.place(plan, LEASE), driver
        super().__init__("svgan-lease", BEAT_SECONDS)
        self.lost = False
        self.beats = 0

    def beat(self) -> None:
        """Write the counter, unless another driver's lease is there."""
        there = _read(self.place)
        if self.beats and there and there.get("driver") != self.driver:
            self.lost = True
            self.over.set()
            return
        self.beats += 1
        own = {"driver": self.driver, "pid": os.getpid(), "host": socket.gethostname(), "machine": machine()}
        storage.write(self.place, json.dumps(own | {"beat": self.beats}).encode())

    def again(self) -> None:
        with contextlib.suppress(*storage.ERRORS):  # an unreachable storage is noticed elsewhere
            self.beat()

    def release(self) -> None:
        with contextlib.suppress(*storage.ERRORS):
            if (_read(self.place) or {}).get("driver") == self.driver:
                storage.remove(self.place)


@contextlib.contextmanager
def hold(plan: Plan) -> Iterator[Lease]:
    """Take the lease, whoever had it, and keep it while the block runs."""
    lease = Lease(plan, uuid.uuid4().hex)
    lease.beat()
    try:
        with lease:
            yield lease
    finally:
        lease.release()


def check(plan: Plan) -> None:
    """Raises UserError if a driver on another host holds the study. Waits for its counter to move, if there is one."""
    place = study_files.place(plan, LEASE)
    there = _of_another_machine(place)
    if not there:
        return
    who, wait = driver_lock.described(there), MISSED_BEATS * BEAT_SECONDS
    print(f"{plan.name}: {who} ran this study; waiting {wait:.0f} s to see whether it still does ...", flush=True)
    until = time.monotonic() + wait
    while time.monotonic() < until:
        time.sleep(min(1.0, BEAT_SECONDS / 10))
        now = _read(place)
        if now is None:
            return
        if now != there:
            raise UserError(
                f"{plan.name}: {who} is running this study; stop it there, or take the study over with --take-over"
            )


def elsewhere(plan: Plan) -> str | None:
    """'process 123 on HOST' if a driver of another machine has left a lease. Only `check` tells whether it lives."""
    there = _of_another_machine(study_files.place(plan, LEASE))
    return driver_lock.described(there) if there else None


def machine() -> str:
    """This host and its start: another container or a restarted machine is another one."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {path.read_text().strip() if path.exists() else ''}"


def _of_another_machine(place: str) -> dict[str, Any] | None:
    """The lease, if a driver of another machine left it. Of this machine's, `driver_lock` knows who lives."""
    there = _read(place)
    return there if there and there.get("machine") != machine() else None


def _read(place: str) -> dict[str, Any] | None:
    try:
        found = json.loads(storage.read(place) or b"null")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else None
