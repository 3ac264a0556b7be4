"""Shared fixtures: a small random domain, so that no test waits for trained weights.

Ray reads RAY_AUTH_MODE when it is first imported, by whichever room's tests that may be (docs/traps.md). A shell that
starts the tests in the background hands on that SIGINT is ignored, and no Ctrl-C of theirs would be heard.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from made_footage import footage  # noqa: F401  (a fixture)
from s3_server import s3, s3_server  # noqa: F401  (fixtures)
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("RAY_AUTH_MODE", "token")
STARTED = time.monotonic()
torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_remembered_s3():
    """fsspec hands out the S3 file system it has, whatever AWS_ENDPOINT_URL says by then (docs/traps.md)."""
    yield
    if module := sys.modules.get("s3fs"):
        module.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def random_domain(tmp_path_factory) -> Path:
    """A folder with a random 16 px domain of 6 W+ layers of width 8."""
    from svgan.images.domain import save_domain
    from svgan.images.encoder import Encoder
    from svgan.images.stylegan2 import Generator, StyleGAN2Config

    torch.manual_seed(0)
    config = StyleGAN2Config(resolution=16, w_dim=8, mapping_layers=2, channels={4: 8, 8: 8, 16: 8})
    folder = tmp_path_factory.mktemp("domain")
    encoder = Encoder(config, widths=(4, 8, 8, 8), reduced=4)
    save_domain(folder, Generator(config), encoder, {"name": "random"})
    return folder


@pytest.fixture(scope="session")
def database(tmp_path_factory) -> Path:
    """A SQLite file that MLflow has migrated once, which takes seconds; tests work on copies."""
    from sweeps.tracking.client import open_experiment

    folder = tmp_path_factory.mktemp("mlflow")
    open_experiment(f"sqlite:///{folder}/mlflow.db", "other")
    sqlite3.connect(folder / "mlflow.db").close()
    return folder / "mlflow.db"


class Files(LoadScopeScheduling):
    """Several processes run the tests (pytest-xdist): a file's stay together, for the servers and sweeps they share,
    and so do tests/e2e's, whose hosts are there once on a machine."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "tests/e2e" if file.startswith("tests/e2e/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Files:
    return Files(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With SLOW_MINUTES the slow tests begin at another file from commit to commit: where the machine is slow, the time
    ends before they do."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    if "SLOW_MINUTES" not in os.environ or not slow:
        return
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout
    files = list(dict.fromkeys(item.path for item in slow))
    first = int(head[:8] or "0", 16) % len(files)
    place = {path: (at - first) % len(files) for at, path in enumerate(files)}
    items.sort(key=lambda item: place.get(item.path, -1))


def pytest_runtest_setup(item: pytest.Item) -> None:
    minutes = os.environ.get("SLOW_MINUTES")
    if minutes and item.get_closest_marker("slow") and time.monotonic() - STARTED > 60 * float(minutes):
        pytest.skip(f"the {minutes} minutes of SLOW_MINUTES are over; `make test-all` without it runs this")
