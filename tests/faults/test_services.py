"""Services that a sweep leans on go away: MLflow, S3, the disk."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import pytest
from harness import EVERY, FLAGS, Sweep, assert_as_if_nothing_had_happened, messages
from ports import free_port, wait_until_answers
from s3_server import BUCKET

from svgan.io import storage
from sweeps.storage import study_files
from sweeps.tracking.outbox import waiting

pytestmark = pytest.mark.slow


class Mlflow:
    """`mlflow server` on a SQLite file, started and stopped at will."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder, self.address, self.process = folder, f"http://127.0.0.1:{self.port}", None

    def start(self) -> None:
        where = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), *where]
            + ["--artifacts-destination", f"{self.folder}/artifacts"],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until_answers(self.port, self.process)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def mlflow_server(tmp_path, database):
    shutil.copy(database, tmp_path / "server.db")
    made = Mlflow(tmp_path)
    made.start()
    yield made
    made.stop()


def test_mlflow_goes_away_and_comes_back_and_has_everything_once(undisturbed, footage, tmp_path, mlflow_server):
    sweep = Sweep(
        tmp_path, footage[0], "--name", "hurt", *FLAGS, "--tracking", mlflow_server.address, holds_at=EVERY + 5
    )
    sweep.until_reports(1)
    sweep.until_held()
    mlflow_server.stop()
    sweep.release()
    sweep.until(lambda: "its writes wait here" in messages(sweep.plan))
    sweep.until(lambda: sum(waiting(sweep.plan).values()) >= 3)
    mlflow_server.start()
    sweep.end()
    assert waiting(sweep.plan) == {}
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)


def test_mlflow_stays_away_and_sync_sends_everything_later(undisturbed, footage, tmp_path, mlflow_server):
    sweep = Sweep(
        tmp_path,
        footage[0],
        *("--name", "hurt", *FLAGS, "--tracking", mlflow_server.address),
        environment={"TOY_MLFLOW_SECONDS": "1"},
        holds_at=EVERY + 5,
    )
    sweep.until_reports(1)
    sweep.until_held()
    mlflow_server.stop()
    sweep.release()
    shown = sweep.end()
    assert "training is done, but MLflow cannot be used" in shown
    assert "python -m sweeps sync hurt" in shown
    mlflow_server.start()
    sync = [sys.executable, "-m", "sweeps", "sync", "hurt", "--tracking", mlflow_server.address]
    done = subprocess.run(sync, env=sweep.environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert waiting(sweep.plan) == {}
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)


class Proxy:
    """A TCP proxy that can do a network's and a server's worst. mode: pass, busy (HTTP 503), refuse, slow."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").rpartition(":")
        self.target, self.mode, self.refused = (host, int(port)), "pass", 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self.mode == "refuse":
                self.refused += 1
                return
            if self.mode == "busy":
                client.settimeout(5)
                client.recv(65536)
                self.refused += 1
                body = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>busy</Message></Error>"
                head = f"HTTP/1.1 503 Slow Down\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                client.sendall(head.encode() + body)
                return
            with socket.create_connection(self.target) as server:
                there = threading.Thread(target=self._pump, args=(client, server), daemon=True)
                there.start()
                self._pump(server, client)
                there.join(60)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if self.mode in ("refuse", "busy"):
                    break
                if self.mode == "slow":
                    time.sleep(0.2)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(s3_server):
    made = Proxy(s3_server["AWS_ENDPOINT_URL"])
    yield made
    made.close()


def on_s3(tmp_path, footage, s3_server, proxy, holds_at, attempts="6"):
    environment = s3_server | {"AWS_ENDPOINT_URL": proxy.address, "AWS_MAX_ATTEMPTS": attempts}
    flags = ("--name", "hurt", *FLAGS, "--storage", f"s3://{BUCKET}/{tmp_path.name}", "--concurrency", "1")
    return Sweep(tmp_path, footage[0], *flags, environment=environment, holds_at=holds_at)


@pytest.fixture
def direct(s3_server, monkeypatch):
    """The test's own way to the server, past the proxy."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()


def test_a_storage_that_is_busy_and_slow_for_a_while_is_waited_for(
    undisturbed, footage, tmp_path, s3_server, proxy, direct
):
    sweep = on_s3(tmp_path, footage, s3_server, proxy, 2 * EVERY + 5)
    sweep.until_reports(2)
    sweep.until_held()
    proxy.mode = "busy"
    sweep.release()
    sweep.until(lambda: proxy.refused >= 3)
    proxy.mode = "slow"
    time.sleep(3)
    proxy.mode = "pass"
    sweep.end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)


def test_a_storage_that_is_gone_is_a_clear_failure_and_the_last_checkpoint_is_whole(
    undisturbed, footage, tmp_path, s3_server, proxy, direct
):
    from svgan.training import checkpoint

    sweep = on_s3(tmp_path, footage, s3_server, proxy, 3 * EVERY + 5, attempts="2")
    sweep.until_reports(3)
    sweep.until_held()
    proxy.mode = "refuse"
    sweep.release()
    shown = sweep.end(2)
    assert "--storage s3://" in shown
    assert "Traceback" not in shown
    where = study_files.place(sweep.plan, "train-0000")
    newest = max(name for name in storage.names(where) if name.startswith("checkpoint_2"))
    storage.download(f"{where}/{newest}", tmp_path / "back")
    assert checkpoint.load(tmp_path / "back" / "state").step >= 2 * EVERY
    proxy.mode = "pass"
    again = Sweep(
        tmp_path,
        footage[0],
        *("--resume", "hurt", "--storage", f"s3://{BUCKET}/{tmp_path.name}"),
        environment=s3_server | {"AWS_ENDPOINT_URL": proxy.address},
    )
    again.end()
    assert_as_if_nothing_had_happened(again.plan, undisturbed)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, of 24 MB."""
    if os.geteuid():
        pytest.skip("mounting a small disk takes root")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("this root may not mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_costs_the_checkpoint_that_did_not_fit_and_no_other(undisturbed, footage, tmp_path, small_disk):
    from svgan.training import checkpoint

    where = ("--storage", str(small_disk), "--concurrency", "1")
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, *where, holds_at=2 * EVERY + 5)
    plan_folder = small_disk / "hurt"
    sweep.until_reports(2)
    sweep.until_held()
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(max(0, free - 20_000)))
    sweep.release()
    shown = sweep.end(2)
    assert "No space left on device" in shown
    assert str(small_disk) in shown
    assert "Traceback" not in shown
    newest = max((plan_folder / "train-0000").glob("checkpoint_2*"))
    assert checkpoint.load(newest / "state").step >= EVERY
    (small_disk / "filler").unlink()
