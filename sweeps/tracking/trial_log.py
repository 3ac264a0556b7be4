"""A trial's writes to MLflow: each figure, model and file once, whatever dies and whoever writes.

A `TrialLog` sends at once if it can. While MLflow is away, entries wait in the study's storage (`outbox`) and training
goes on. They are sent by the next write after MLflow is back, by the driver at the study's end, or by `python -m sweeps
sync`.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.io import storage
from sweeps.storage import events, study_files
from sweeps.storage.tag_names import ROLE, SWEEP, TRIAL
from sweeps.storage.trial_outcome import Ending
from sweeps.tracking import relay
from sweeps.tracking.client import Tracking
from sweeps.tracking.outbox import Entry, Outbox, waiting
from sweeps.tracking.relay import RelayedSender
from sweeps.tracking.sender import Sender, failures

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

RETRY_SECONDS = 10.0  # an MLflow that was away is asked again; a try costs a training loop up to CONNECT_SECONDS


class TrialLog:
    """Writes to a trial's run, for rank 0 and for the driver. Never raises because MLflow is away."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan, self.number = plan, number
        self.outbox = Outbox(plan, number)
        self.sender: Sender | RelayedSender | None = None
        self.retry_at = 0.0
        self.away = False
        with contextlib.suppress(*storage.ERRORS):  # without the storage, MLflow is still told
            self.away = bool(self.outbox.names())

    def open(self, params: Mapping[str, Any], attempt: int = 0, device: str = "") -> None:
        """Open the run with its parameters. attempt: how often workers were started for this trial; device: theirs, if
        known.
        """
        told = {key: str(value) for key, value in params.items()}
        self._write(Entry("open", {"params": told, "attempt": attempt, "device": device}))

    def metrics(self, step: int, values: Mapping[str, float], model: int | None = None, seed: str = "") -> None:
        """Log values at a step, each (name, step) once.

        model: the step of the LoggedModel to which they also belong, with this seed if the trial has several.
        """
        fields = {"step": step, "values": dict(values), "model": model, "at": int(time.time() * 1000)}
        self._write(Entry("metrics", fields | ({"seed": seed} if seed else {})))

    def model(self, step: int, folder: Path, tags: Mapping[str, str], params: Mapping[str, Any]) -> None:
        """Publish a generator's folder as a LoggedModel of this run, one per step (and seed tag)."""
        told = {key: str(value) for key, value in params.items()}
        self._write(Entry("model", {"step": step, "tags": dict(tags), "params": told}, folder))

    def artifacts(self, paths: Sequence[Path], folder: str | None = None) -> None:
        """Log files of the run. A file of the same name is replaced."""
        with tempfile.TemporaryDirectory(prefix="svgan-artifacts-") as together:
            for path in paths:
                shutil.copy(path, together)
            self._write(Entry("artifacts", {"folder": folder}, Path(together)))

    def close(
        self, outcome: Ending, error: str | None = None, used: Mapping[str, float] | None = None, step: int = 0
    ) -> None:
        """Set the trial's final status. used: the hours it took so far (`usage.figures`), logged at its last step."""
        at = int(time.time() * 1000)
        fields = {"outcome": outcome, "error": error, "used": dict(used or {}), "step": step, "at": at}
        self._write(Entry("close", fields))

    def figures(self, names: Sequence[str]) -> dict[str, float]:
        """The values of these figures that an earlier attempt logged; {} while MLflow is away."""
        with contextlib.suppress(*failures()):
            known = self._connected().known
            return {name: known[name] for name in names if name in known}
        return {}

    def link(self) -> str:
        """The address of the run's page, or its id if MLflow is a file; '' while MLflow is away."""
        with contextlib.suppress(*failures()):
            tracking = Tracking(self.plan)
            run = tracking.find(**{SWEEP: self.plan.name, ROLE: "trial", TRIAL: str(self.number)})
            if run is not None:
                return tracking.page(run)
        return ""

    def _connected(self) -> Sender | RelayedSender:
        if self.sender is None:
            make = RelayedSender if relay.needed(self.plan) else Sender
            self.sender = make(self.plan, self.number)
        return self.sender

    def _write(self, entry: Entry) -> None:
        if not self._sent(entry):
            self.outbox.put(entry)

    def _sent(self, entry: Entry) -> bool:
        """Whether the entry, and all that waited before it, were sent. False while another process sends those."""
        if time.monotonic() < self.retry_at:
            return False
        try:
            if self.away:
                self.sender = None  # what it knows of MLflow is older than what others have sent meanwhile
                count = self.outbox.send(self._connected)
                if count is None:
                    return False
                if count:
                    events.tell(self.plan, self.number, f"MLflow is back; {count} writes that waited were sent")
                self.away = False
            self._connected().apply(entry)
        except failures() as error:
            if not self.away:
                reason = f"{type(error).__name__}: {str(error)[:150]}"
                events.tell(self.plan, self.number, f"MLflow cannot be used, so its writes wait here ({reason})")
            self.away, self.sender, self.retry_at = True, None, time.monotonic() + RETRY_SECONDS
            return False
        return True


def sync(plan: Plan) -> tuple[int, int]:
    """Send what waits; return the number of entries sent, and of those left for whatever reason."""
    sent = 0
    for number in waiting(plan):
        with contextlib.suppress(*failures()):
            sent += Outbox(plan, number).send(partial(Sender, plan, number), wait=True) or 0
    return sent, sum(waiting(plan).values())


def attempt(plan: Plan, number: int) -> int:
    """Record that workers start for this trial, and return how often they have. The count is in the storage."""
    where = study_files.place(plan, "attempts", f"{number:06d}")
    with contextlib.suppress(*storage.ERRORS):
        storage.write(f"{where}/{time.time_ns():020d}", b"")
        return len(storage.names(where))
    return 1
