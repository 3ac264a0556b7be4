"""The network interface over which the workers of a trial meet, if they are on several hosts.

gloo takes the interface of the host's own name, which Debian's /etc/hosts maps to the loopback. Workers on two hosts
then wait for each other for ever (docs/traps.md). Other hosts reach a host by the interface of its default route.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.train.torch import TorchConfig

from sweeps.ray_runtime.notice import listen

ROUTES = Path("/proc/net/route")
VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
UP = 1  # of a route's flags


def interface(routes: str) -> str:
    """The interface of the default route with the lowest metric, else of the first route, else the loopback.

    routes: the content of /proc/net/route.
    """
    rows = [line.split() for line in routes.splitlines()[1:]]
    used = [row for row in rows if len(row) >= 8 and int(row[3], 16) & UP and row[0] != "lo"]
    defaults = [row for row in used if int(row[1], 16) == int(row[7], 16) == 0]
    if defaults:
        return min(defaults, key=lambda row: int(row[6]))[0]
    return used[0][0] if used else "lo"


def choose() -> None:
    """Set the variables of gloo and NCCL that are unset. Every worker calls this before it joins the process group."""
    found = interface(ROUTES.read_text()) if ROUTES.exists() else "lo"
    for name in VARIABLES:
        os.environ.setdefault(name, found)


class RoutedTorchBackend(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(choose)
        backend_config.nodes[:] = worker_group.execute(listen)
        super().on_start(worker_group, backend_config)


@dataclass
class RoutedTorchConfig(TorchConfig):
    """Ray Train's torch configuration whose workers listen for a notice, and choose the interface of their default
    route.

    nodes: the workers' nodes, filled at their start.
    """

    nodes: list[str] = field(default_factory=list)

    @property
    def backend_cls(self) -> type[RoutedTorchBackend]:
        return RoutedTorchBackend
