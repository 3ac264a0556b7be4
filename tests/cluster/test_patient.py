"""A real node whose agent takes longer to come than Ray waits for it."""

import contextlib
import time

import psutil
from ports import free_port
from ray_cluster import Node

SLEEPS = """
import sys, time
if any(part.endswith("dashboard/agent.py") for part in sys.orig_argv):
    time.sleep(600)
"""


def alive(address: str) -> int:
    """The nodes that a head counts as alive."""
    from ray._raylet import GcsClient

    with contextlib.suppress(Exception):  # not there yet: it has a class of its own for every way of that
        nodes = GcsClient(address=address).get_all_node_info(timeout=1).values()
        return sum(node.state == 0 for node in nodes)
    return 0


def test_a_node_joins_though_its_agent_is_late(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SLEEPS)
    port = free_port()
    begun = time.monotonic()
    node = Node("--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false", path=[str(tmp_path)])
    try:
        while not alive(f"127.0.0.1:{port}"):
            assert node.process.poll() is None, "Ray gave up"
            assert time.monotonic() < begun + 60
            time.sleep(0.2)
        processes = psutil.Process(node.process.pid).children(recursive=True)
        assert any("dashboard/agent.py" in part for process in processes for part in process.cmdline())
    finally:
        node.lose()
