"""Shared fixtures: a small random domain, so that no test waits for trained weights.

Ray reads RAY_AUTH_MODE when it is first imported, by whichever room's tests that may be (docs/traps.md). A shell that
starts the tests in the background hands on that SIGINT is ignored, and no Ctrl-C of theirs would be heard.
"""

import os
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from made_footage import footage  # noqa: F401  (a fixture)
from s3_server import s3, s3_server  # noqa: F401  (fixtures)
from xdist.scheduler import LoadScopeScheduling

import svgan.systems  # noqa: F401  (registers them)

os.environ.setdefault("RAY_AUTH_MODE", "token")
# Of a machine's own: accounts and servers that tests must not meet, and what would change what programs print.
FOREIGN = ("AWS_", "MLFLOW_", "RAY_ADDRESS", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS")
for name in [name for name in os.environ if name.startswith(FOREIGN)]:
    del os.environ[name]
for name in ("no_proxy", "NO_PROXY"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))
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


def pytest_configure(config: pytest.Config) -> None:
    """Tests that are not for a GPU see none: they ask for the CPU's figures, and for what is usual without a GPU."""
    if "not gpu" in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


class Files(LoadScopeScheduling):
    """Several processes run the tests (pytest-xdist): a file's stay together, for the servers and sweeps they share,
    and so do tests/e2e's, whose hosts are there once on a machine."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "tests/e2e" if file.startswith("tests/e2e/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Files:
    return Files(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """TEST_DEADLINE, in seconds since 1970: a test that would begin later fails, so that its name is in the summary."""
    deadline = os.environ.get("TEST_DEADLINE")
    if deadline and time.time() > float(deadline):
        pytest.fail("not run: TEST_DEADLINE is over; run the tests on a quieter machine or without it", pytrace=False)
