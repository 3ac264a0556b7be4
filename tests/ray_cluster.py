"""A Ray cluster of several nodes on this machine, each a raylet of its own, that can be lost one by one."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import ray
from ports import free_port, wait_until_answers

from cluster import patient

RAY = Path(sys.executable).parent / "ray"
WAITING = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"  # for a place, before a trial says that there is none; 60 by default


class Node:
    """`ray start --block`, as a cluster's nodes do it, in a session of its own.

    python: another one than the tests', which finds nothing of their path. folder: where it is started.
    """

    def __init__(
        self, *arguments: str, path: Sequence[str] = (), python: Path | None = None, folder: Path | None = None
    ) -> None:
        ray = [RAY] if python is None else [python, "-m", "ray.scripts.scripts"]
        path = [*path, *sys.path] if python is None else path
        for agent in ("dashboard-agent-grpc", "dashboard-agent-listen", "metrics-export"):
            arguments += (f"--{agent}-port={free_port()}",)
        start = ("start", "--block", "--disable-usage-stats", "--object-store-memory", str(128 * 2**20))
        self.process = subprocess.Popen(
            [sys.executable, patient.__file__, *ray, *start, *arguments],
            cwd=folder,
            env=os.environ | {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.pathsep.join(path), WAITING: "15"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def runs(self, title: str) -> bool:
        """Whether a process of this title is below the node's."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if " ".join(process.cmdline()).startswith(title):
                    return True
        return False

    def lose(self) -> None:
        """The node's power is cut."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Cluster:
    """A head without CPUs for trials, and nodes that come and go."""

    def __init__(self) -> None:
        ports = [free_port() for _ in range(2)]
        self.address = f"127.0.0.1:{ports[0]}"
        slots = ("--num-cpus", "0", "--resources", '{"trial_slot": 4}')
        self.head = Node("--head", "--port", str(ports[0]), "--dashboard-port", str(ports[1]), *slots)
        self.nodes: list[Node] = []
        self.environment = {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "disabled"}
        wait_until_answers(ports[0], self.head.process)

    def add(self, cpus: int) -> Node:
        self.nodes.append(Node("--address", self.address, "--num-cpus", str(cpus)))
        return self.nodes[-1]

    @property
    def told_address(self) -> str:
        """The address as Ray gives it to its processes: never the loopback's."""
        return f"{ray.util.get_node_ip_address()}:{self.address.rpartition(':')[2]}"

    def cpus(self) -> float:
        code = "import ray; ray.init(log_to_driver=False); print(ray.cluster_resources().get('CPU', 0))"
        told = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | self.environment, capture_output=True, text=True, timeout=90
        )
        return float(told.stdout.split()[-1]) if told.returncode == 0 else -1

    def until_cpus(self, count: int) -> None:
        deadline = time.monotonic() + 600
        while self.cpus() != count:
            assert time.monotonic() < deadline, f"the cluster did not get to {count} CPUs"
            time.sleep(1)

    def close(self) -> None:
        for node in (*self.nodes, self.head):
            node.lose()
