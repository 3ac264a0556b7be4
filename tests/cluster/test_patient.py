"""A real node whose agent takes longer to come than Ray waits for it."""

import os
import subprocess
import sys

import psutil
from ports import free_port
from ray_cluster import Node

SLEEPS = """
import sys, time
if any(part.endswith("dashboard/agent.py") for part in sys.orig_argv):
    time.sleep(600)
"""


# In a process of its own: one that finds no token where Ray asks for it is aborted, and with one would keep it.
JOINED = """
import contextlib, sys, time
from ray._raylet import GcsClient
while True:
    with contextlib.suppress(Exception):  # not there yet: it has a class of its own for every way of that
        nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=1).values()
        if any(node.state == 0 for node in nodes):
            break
    time.sleep(0.2)
"""


def test_a_node_joins_though_its_agent_is_late(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SLEEPS)
    port = free_port()
    node = Node("--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false", path=[str(tmp_path)])
    try:
        ask = [sys.executable, "-c", JOINED, f"127.0.0.1:{port}"]
        subprocess.run(ask, env=os.environ | {"RAY_AUTH_MODE": "disabled"}, check=True, timeout=180)
        assert node.process.poll() is None, "Ray gave up"
        processes = psutil.Process(node.process.pid).children(recursive=True)
        assert any("dashboard/agent.py" in part for process in processes for part in process.cmdline())
    finally:
        node.lose()
