"""A relay from workers to an MLflow that only the head can reach: a server on the head's loopback, or a file.

The study's driver starts an actor beside itself, which applies what workers send. So MLflow listens to its own machine
only, and workers need no password for it. Ray's token protects the way.
"""

from __future__ import annotations

import functools
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from svgan.errors import UserError, one_line
from sweeps.storage.plan import Plan
from sweeps.tracking.outbox import Entry

if TYPE_CHECKING:
    from ray.actor import ActorHandle

LOOPBACK = ("127.0.0.1", "localhost", "::1")
THREADS = 8
WRITE_SECONDS = 120.0  # that a worker waits for one write: MLflow's client tries three times for 30 s


def of_one_machine(tracking: str) -> bool:
    """Whether this address means the same MLflow on one machine only."""
    return tracking.startswith("sqlite:") or urlsplit(tracking).hostname in LOOPBACK


def needed(plan: Plan) -> bool:
    """Whether the study's relay, and so its MLflow, is on another node than this process."""
    import ray

    if not of_one_machine(plan.output.tracking) or not ray.is_initialized():
        return False
    name = _running(plan)
    return name is not None and not name.endswith(ray.get_runtime_context().get_node_id())


def start(plan: Plan) -> ActorHandle:
    """Start the study's relay on this node. It ends when the owner of the handle ends."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    remote: Any = ray.remote(Relay)
    actor = remote.options(
        name=f"{_name(plan)}@{node}",
        num_cpus=0,
        max_concurrency=THREADS,
        max_restarts=-1,
        max_task_retries=1,  # an entry that is sent twice does no harm
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )
    return actor.remote(plan.to_json())


def _name(plan: Plan) -> str:
    return f"mlflow-{plan.scratch.name}"


def _running(plan: Plan) -> str | None:
    """The full name of the study's relay, which ends with its node."""
    import ray

    return next((name for name in ray.util.list_named_actors() if name.startswith(f"{_name(plan)}@")), None)


class Relay:
    """Applies the entries of trials to MLflow, and returns errors in one line."""

    def __init__(self, plan: dict[str, Any]) -> None:
        from sweeps.tracking.sender import Sender

        self.plan = Plan.from_json(plan)
        self.senders: dict[int, Sender] = {}
        self.locks: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)

    def apply(self, number: int, kind: str, fields: dict[str, Any], files: dict[str, bytes] | None) -> str | None:
        return self._tried(number, lambda sender: self._apply(sender, kind, fields, files))

    def forget(self, number: int) -> None:
        """Ask MLflow anew what it has of a trial, because others may have written meanwhile."""
        with self.locks[number]:
            self.senders.pop(number, None)

    def known(self, number: int) -> dict[str, float] | str:
        found: dict[str, float] = {}
        return self._tried(number, lambda sender: found.update(sender.known)) or found

    def _apply(self, sender: Any, kind: str, fields: dict[str, Any], files: dict[str, bytes] | None) -> None:
        with tempfile.TemporaryDirectory(prefix="svgan-relay-") as folder:
            for name, content in (files or {}).items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            sender.apply(Entry(kind, fields, None if files is None else Path(folder)))

    def _tried(self, number: int, what: Any) -> str | None:
        from sweeps.tracking.sender import Sender, failures

        with self.locks[number]:
            try:
                if number not in self.senders:
                    self.senders[number] = Sender(self.plan, number)
                what(self.senders[number])
            except failures() as error:
                self.senders.pop(number, None)
                return f"{type(error).__name__}: {one_line(error)}"
        return None


class RelayedSender:
    """A worker's end of the relay, with the interface of `sender.Sender`. Raises UserError while MLflow cannot be
    reached.
    """

    def __init__(self, plan: Plan, number: int) -> None:
        import ray

        self.number = number
        try:
            self.relay = ray.get_actor(_running(plan) or "")
        except ValueError:
            raise UserError(f"the study's relay to MLflow at {plan.output.tracking} is gone") from None
        self._asked(self.relay.forget.remote(number))

    def apply(self, entry: Entry) -> None:
        files = None if entry.files is None else _contents(entry.files)
        if trouble := self._asked(self.relay.apply.remote(self.number, entry.kind, entry.fields, files)):
            raise UserError(trouble)

    @functools.cached_property
    def known(self) -> dict[str, float]:
        found = self._asked(self.relay.known.remote(self.number))
        if isinstance(found, str):
            raise UserError(found)
        return found

    def _asked(self, reference: Any) -> Any:
        import ray
        from ray.exceptions import RayError

        try:
            return ray.get(reference, timeout=WRITE_SECONDS)
        except RayError as error:
            raise UserError(f"the relay to MLflow does not answer ({type(error).__name__})") from None


def _contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
