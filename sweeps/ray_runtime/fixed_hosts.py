"""Wait for the hosts of a fixed list, as in cluster/onprem.yaml, that have not joined when a study starts.

The yaml says what a cloud's nodes will have, but nothing about such a host. So a study waits for it, and says so: half
a minute after `ray up`, or as long as a first installation takes.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence

from sweeps.ray_runtime import autoscaler, resources

# Without a host that is being set up, or with another there to begin on. The launcher asks each host anew within half a
# minute.
HOST_SECONDS = 60.0
LOOK_SECONDS = 1.0


def listed() -> list[str]:
    """The workers listed in the file that `ray up` left on the head; none if a provider creates its nodes."""
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        provider = (resources.bootstrap() or {}).get("provider") or {}
        return list(provider.get("worker_ips") or []) if provider.get("type") == "local" else []
    return []


def joined() -> set[str]:
    """The addresses of the nodes that have joined, without the head's."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"] and resources.HEAD not in node["Resources"]]
    return {node["NodeManagerAddress"] for node in nodes}


def wait_for_hosts(
    hosts: Sequence[str],
    joined: Callable[[], set[str]] = joined,
    being_set_up: Callable[[], set[str]] = autoscaler.pending_hosts,
    *,
    patience: float = HOST_SECONDS,
    every: float = LOOK_SECONDS,
) -> None:
    """Return when all hosts have joined, or after the limit of waiting; print what is waited for."""
    addresses = {host: _address(host) for host in hosts}
    last, said = time.monotonic(), list[str]()
    while True:
        there = joined()
        missing = [host for host, address in addresses.items() if address not in there]
        if not missing:
            return
        if not there and being_set_up() & {addresses[host] for host in missing}:
            last = time.monotonic()
        if time.monotonic() - last > patience:
            print(f"going on without {', '.join(missing)}: not joined; `ray status` on the head says more", flush=True)
            return
        if missing != said:
            print(f"waiting for hosts of the yaml that have not joined yet: {', '.join(missing)}", flush=True)
            said = missing
        time.sleep(every)


def _address(host: str) -> str:
    with contextlib.suppress(OSError):
        return socket.gethostbyname(host)
    return host
