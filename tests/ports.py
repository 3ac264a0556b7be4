"""Ports of servers that tests start on this machine."""

import socket
import subprocess
import time
from pathlib import Path

HERE = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return probe.getsockname()[1]


def answers(port: int, host: str = HERE) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return not probe.connect_ex((host, port))


def wait_until_answers(port: int, process: subprocess.Popen, log: Path | None = None, seconds: float = 300) -> None:
    """Until a server started as `process` takes connections; its end, or none in time, is an error that shows `log`."""
    deadline = time.monotonic() + seconds
    while not answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            ended = "" if process.poll() is None else f", ended with {process.poll()}"
            said = log.read_text() if log else ""
            raise AssertionError(f"{process.args}: does not answer at port {port}{ended}\n{said}")
        time.sleep(0.2)
