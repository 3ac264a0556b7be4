"""Which network interface the workers of a trial meet over, where they are on several hosts.

gloo takes the one that the host's own name leads to, which Debian's /etc/hosts makes the loopback: workers on two hosts
then wait for each other in vain (docs/traps.md). The one of the default route is what a host is reached by.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

ROUTES = Path("/proc/net/route")
VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
UP = 1  # of a route's flags


def interface(routes: str) -> str:
    """The interface of the default route of least metric, else of the first route at all, else the loopback.

    routes: what /proc/net/route says.
    """
    rows = [line.split() for line in routes.splitlines()[1:]]
    used = [row for row in rows if len(row) >= 8 and int(row[3], 16) & UP and row[0] != "lo"]
    defaults = [row for row in used if int(row[1], 16) == int(row[7], 16) == 0]
    if defaults:
        return min(defaults, key=lambda row: int(row[6]))[0]
    return used[0][0] if used else "lo"


def choose() -> None:
    """Set the variables of gloo and NCCL that are not set yet; runs in every worker before it joins the group."""
    found = interface(ROUTES.read_text()) if ROUTES.exists() else "lo"
    for name in VARIABLES:
        os.environ.setdefault(name, found)


class Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(choose)
        super().on_start(worker_group, backend_config)


class Meeting(TorchConfig):
    """Ray Train's torch configuration whose workers choose their interface first."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend
