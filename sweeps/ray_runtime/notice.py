"""The notice that a worker's process or node will be taken away: SIGTERM, or Ray's drain of the node.

Kubernetes and systemd send SIGTERM. Ray drains the node of a spot interruption (`cluster/spot_notice.py`), and the node
whose `ray start --block` gets SIGTERM.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.train
from ray.train.backend import Backend, BackendConfig

from sweeps.storage.stop_request import NOTICE_SECONDS

WATCHER, WATCHED_EVERY = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S"
# Between two looks for a drain, by Ray Train's watcher and by a worker: a request to an actor takes 2 ms, and of the
# 30 s in which a state is to be kept the two take at most 4.
WATCH_SECONDS = 2.0
LOSS_SECONDS = 75.0  # until Ray calls a node dead that answers nothing: 62 s were measured (docs/traps.md)
LOOK_SECONDS = 1.0  # between two looks whether it does

_terminated = threading.Event()


def environment(several_nodes: bool) -> dict[str, str]:
    """Variables of Ray Train's watcher, an actor beside each trial. A single node is not drained, so has none."""
    return {WATCHER: str(int(several_nodes)), WATCHED_EVERY: f"{WATCH_SECONDS:g}"}


def listen() -> str:
    """Let the first SIGTERM of this worker be a notice, and a later one end it as Ray does; returns the node's id.

    Called in the worker's main thread, which alone may set a handler. SIGTERM is blocked in the processes of a Ray that
    the study has started itself (`session.own_sigterm`), and heard by its workers from here on.
    """
    before, since = signal.getsignal(signal.SIGTERM), 0.0

    def heard(number: int, frame: Any) -> None:
        nonlocal since
        since = since or time.monotonic()
        _terminated.set()
        if time.monotonic() - since > NOTICE_SECONDS and callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, heard)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    return ray.get_runtime_context().get_node_id()


class Listening(Backend):
    """Workers that listen for SIGTERM from their start on."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        backend_config.nodes[:] = worker_group.execute(listen)


@dataclass
class ListeningConfig(BackendConfig):
    """Ray Train's configuration of a single worker, which joins no process group. nodes: filled at its start."""

    nodes: list[str] = field(default_factory=list)

    @property
    def backend_cls(self) -> type[Listening]:
        return Listening


class Notice:
    """What a worker knows of its own end, asked by its training loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.next = clock, 0.0
        self.watched = os.environ.get(WATCHER) == "1" and hasattr(ray.train, "get_preemption_info")

    def terminated(self) -> bool:
        return _terminated.is_set()

    def due(self) -> bool:
        """Whether it is time to ask for a drain."""
        return self.watched and self.clock() >= self.next

    def drained(self) -> bool:
        """Whether the node of any worker is being drained. All workers must ask, as for a report."""
        self.next = self.clock() + WATCH_SECONDS
        return ray.train.get_preemption_info() is not None


def living_nodes() -> set[str]:
    """The ids of the nodes that Ray calls alive."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def lost(nodes: set[str], within: float = 0.0) -> bool:
    """Whether one of these nodes is dead, or is called dead within so many seconds."""
    deadline = time.monotonic() + within
    while not nodes - living_nodes():
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True
