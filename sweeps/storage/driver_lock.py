"""The lock that keeps a study to one driver, and who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from svgan.errors import UserError
from svgan.io import process_lock

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

LOCK = "lock"


@contextlib.contextmanager
def hold(plan: Plan) -> Iterator[None]:
    """Hold the study's lock; the system releases it however the process ends. Raises UserError if another driver holds
    it.
    """
    own = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(process_lock.hold(Path(plan.output.folder, LOCK), own))
        except Timeout:
            raise UserError(
                f"{plan.name}: {holder(plan)} is running this study; stop it with: python -m sweeps stop {plan.name}"
            ) from None
        yield


def here() -> str:
    """'process 123 on HOST': this process, as a person finds it."""
    return described({"pid": os.getpid(), "host": socket.gethostname()})


def described(fields: Mapping[str, Any]) -> str:
    """'process 123 on HOST', of what a lock or a lease says of its holder."""
    if not {"pid", "host"} <= fields.keys():
        return "another process"
    return f"process {fields['pid']} on {fields['host']}"


def is_held(plan: Plan) -> bool:
    """Whether a driver holds the study's lock on this machine."""
    return process_lock.is_held(Path(plan.output.folder, LOCK))


def holder(plan: Plan) -> str:
    """'process 123 on HOST', as the lock's last holder wrote it."""
    try:
        fields: dict[str, Any] = json.loads(Path(plan.output.folder, LOCK).read_text())
        return described(fields)
    except (OSError, ValueError):
        return "another process"
