"""What Ray starts for a worker where `forkserver` runs: it asks for a fork, which becomes the worker, and ends.

Nothing is imported here that takes time. Where the server is gone, or more is asked than environment variables, Ray's
own `setup_worker.py` goes on.
"""

from __future__ import annotations

import array
import json
import os
import socket
import sys
from typing import Any

SOCKET = "SVGAN_FORKSERVER"
CONTEXT, LANGUAGE = "--serialized-runtime-env-context=", "--language="


def main() -> None:
    asked = wanted(sys.argv[1:])
    if not asked or not forked(asked):
        as_ever()


def forked(asked: dict[str, Any]) -> bool:
    """Whether the server has made the worker that is asked for."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.environ[SOCKET])
            send(connection, asked, [0, 1, 2])
            return bool(connection.recv(16))
    except (OSError, KeyError):
        return False


def wanted(arguments: list[str]) -> dict[str, Any]:
    """The command, environment and folder of the worker; nothing where a fork would not do."""
    context = next((a.removeprefix(CONTEXT) for a in arguments if a.startswith(CONTEXT)), "") or "{}"
    read = json.loads(context)
    if read.get("command_prefix") or read.get("override_worker_entrypoint"):
        return {}
    if read.get("py_executable") not in (None, sys.executable):
        return {}
    command = [argument for argument in arguments if not argument.startswith((CONTEXT, LANGUAGE))]
    environment = dict(os.environ) | read.get("env_vars", {})
    return {"command": command, "environment": environment, "folder": os.getcwd()}


def send(connection: socket.socket, asked: dict[str, Any], files: list[int]) -> None:
    content = json.dumps(asked).encode()
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
    connection.sendmsg([len(content).to_bytes(8, "big")], ancillary)
    connection.sendall(content)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What `send` sent; raises EOFError where the other end has gone."""
    files = array.array("i")
    head, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(3 * files.itemsize))
    for _, _, data in ancillary:
        files.frombytes(data)
    content = b""
    while not head or len(content) < int.from_bytes(head, "big"):
        part = connection.recv(65536)
        if not part:
            raise EOFError("nobody waits for this worker")
        content += part
    return json.loads(content), list(files)


def as_ever() -> None:
    """Ray's own script, in this process."""
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from ray._private import services

    script = os.path.join(os.path.dirname(services.__file__), "workers", "setup_worker.py")
    os.execv(sys.executable, [sys.executable, script, *sys.argv[1:]])


if __name__ == "__main__":
    main()
