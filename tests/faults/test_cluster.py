"""A cluster of several nodes: one is lost and another comes, and two studies share it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from harness import FLAGS, Sweep, assert_as_if_nothing_had_happened, named, told

pytestmark = pytest.mark.slow

RAY = Path(sys.executable).parent / "ray"
WAITING = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"  # for a place, before a trial says that there is none; 60 by default


class Node:
    """`ray start --block`, in a session of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [RAY, "start", "--block", "--disable-usage-stats", "--object-store-memory", str(128 * 2**20), *arguments],
            env=os.environ | {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.pathsep.join(sys.path), WAITING: "15"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

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
        host, port = "127.0.0.1", ports[0]
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(1)
                if not probe.connect_ex((host, port)):
                    return
            time.sleep(0.3)
        raise AssertionError("the head did not start")

    def add(self, cpus: int) -> Node:
        self.nodes.append(Node("--address", self.address, "--num-cpus", str(cpus)))
        return self.nodes[-1]

    def cpus(self) -> float:
        code = "import ray; ray.init(log_to_driver=False); print(ray.cluster_resources().get('CPU', 0))"
        told = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | self.environment, capture_output=True, text=True, timeout=90
        )
        return float(told.stdout.split()[-1]) if told.returncode == 0 else -1

    def until_cpus(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while self.cpus() != count:
            assert time.monotonic() < deadline, f"the cluster did not get to {count} CPUs"
            time.sleep(1)

    def close(self) -> None:
        for node in (*self.nodes, self.head):
            node.lose()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cluster():
    made = Cluster()
    yield made
    made.close()


def test_a_lost_node_is_waited_for_and_the_trial_goes_on_where_another_joins(undisturbed, footage, tmp_path, cluster):
    first = cluster.add(1)
    cluster.until_cpus(1)
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, "--concurrency", "1", environment=cluster.environment)
    sweep.until_reports(2)
    relays = named(psutil.Process(cluster.head.process.pid).children(recursive=True), "ray::Relay")
    assert len(relays) == 1, "workers on another node reach the head's database through the relay"
    first.lose()
    sweep.until_told("waits for a node: 1 x 1 CPU asked, room for 0 of 1", timeout=240)
    cluster.add(1)
    sweep.end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    assert "goes on: there is room again" in told(sweep.plan)


def test_two_studies_on_one_cluster_and_one_mlflow_are_both_right(undisturbed, footage, tmp_path, cluster):
    cluster.add(2)
    cluster.until_cpus(2)
    tracking = ("--tracking", f"sqlite:///{tmp_path}/both.db", "--concurrency", "2")
    both = [
        Sweep(tmp_path, footage[0], "--name", name, *FLAGS, *tracking, environment=cluster.environment)
        for name in ("one", "two")
    ]
    for sweep in both:
        sweep.end()
    for sweep in both:
        assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
