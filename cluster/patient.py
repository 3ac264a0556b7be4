"""`ray start` on a node that may be busy:

    python ~/svgan-repo/cluster/patient.py ray start --address=10.0.0.1:6379 --dashboard-agent-listen-port=8079 ...

A raylet waits 15 s for a file in which its agent writes that port, given or not, and then aborts (docs/traps.md). So
this writes the given port there as soon as it sees the raylet. The agent may then take its time.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

LOOK_SECONDS = 0.1  # the raylet waits 15 s for the file
PORT = re.compile(r"--dashboard-agent-listen-port[= ](\d+)")
FILE = "dashboard_agent_listen_port_{node_id}"  # as Ray 2.60 calls it


def raylet_below(process: int) -> dict[str, str]:
    """The arguments, by name, of the raylet that a process has started; {} while there is none."""
    try:
        for child in psutil.Process(process).children(recursive=True):
            pairs = dict(part[2:].split("=", 1) for part in child.cmdline() if part.startswith("--") and "=" in part)
            if child.name() == "raylet" and {"node_id", "session_dir"} <= pairs.keys():
                return pairs
    except psutil.Error:  # one that has just ended
        pass
    return {}


def start(command: Sequence[str]) -> int:
    """Run a `ray start` that names its agent's port; return its exit code."""
    found = PORT.search(" ".join(command))
    process = subprocess.Popen(command)
    while found and process.poll() is None:
        if raylet := raylet_below(process.pid):
            (Path(raylet["session_dir"]) / FILE.format(**raylet)).write_text(found[1])
            break
        time.sleep(LOOK_SECONDS)
    return process.wait()


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
