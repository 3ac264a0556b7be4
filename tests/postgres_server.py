"""A real PostgreSQL for tests, from the binaries of the machine: about 3 s to the first connection, nothing is left."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from cluster.mlflow_settings import binaries
from svgan.errors import UserError

NOBODY = 65534


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """`postgresql://...:PORT/` of a running server, trusting everyone on this machine."""
    try:
        found = binaries()
    except UserError as error:
        pytest.skip(str(error))
    with running(found) as url:
        yield url


@contextlib.contextmanager
def running(found: Path, fsync: str = "off") -> Iterator[str]:
    """The server while the block runs. found: the folder of its binaries."""
    folder = Path(tempfile.mkdtemp(prefix="svgan-postgres-"))  # pytest's own folders are closed to other users
    # It refuses to run as root.
    other: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    if other:
        os.chown(folder, NOBODY, NOBODY)
    data, port = folder / "data", free_port()
    try:
        subprocess.run(
            [found / "initdb", "-D", data, "-U", "svgan", "-A", "trust", "--no-sync", "--encoding=UTF8", "--locale=C"],
            check=True,
            capture_output=True,
            cwd=folder,
            **other,
        )
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": fsync}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [found / "postgres", "-D", data, *flags], stdout=log, stderr=log, cwd=folder, **other
            )
        try:
            _wait(f"postgresql://svgan@127.0.0.1:{port}/postgres", server, folder / "log")
            yield f"postgresql://svgan@127.0.0.1:{port}/"
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """The URL of a fresh, empty database."""
    import psycopg

    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"{postgres_server}postgres", autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
    return f"{postgres_server}{name}"


def _wait(url: str, server: subprocess.Popen, log: Path, seconds: float = 300) -> None:
    import psycopg

    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL did not come up (exit code {server.poll()}): {log.read_text()[-500:]}")
