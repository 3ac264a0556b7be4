"""MLflow's server as a head runs it, on a real PostgreSQL and a real S3: who may come in, and what a loss costs."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from ports import free_port

from cluster import mlflow_backup, mlflow_server, mlflow_settings
from cluster.environment import write_private
from svgan.errors import UserError

ROOT = Path(mlflow_server.__file__).parent.parent
PASSWORD = "planted-password-of-mlflow"


@pytest.fixture
def home(monkeypatch):
    """A home folder whose user has credentials; PostgreSQL's user, where the test runs as root, may pass through it."""
    folder = Path(tempfile.mkdtemp(prefix="svgan-mlflow-"))
    folder.chmod(0o755)
    text = f"[mlflow]\nmlflow_tracking_username = svgan\nmlflow_tracking_password = {PASSWORD}\n"
    write_private(folder / ".mlflow/credentials", text)
    port = free_port()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("SVGAN_MLFLOW", f"file://{folder}/files")
    for name in ("SVGAN_MLFLOW_DATABASE", "SVGAN_MLFLOW_HOME", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    yield folder
    if pid := mlflow_settings.running(mlflow_settings.Settings.read()):
        os.kill(pid, signal.SIGTERM)
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def test_what_is_missing_is_named(home, monkeypatch):
    settings = mlflow_settings.Settings.read()
    assert settings.own
    assert settings.password == PASSWORD
    assert PASSWORD not in settings.database
    for name, value, words in [
        ("SVGAN_MLFLOW", "", "SVGAN_MLFLOW: not set"),
        ("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db", "MLFLOW_TRACKING_URI: give a port of the loopback"),
        ("MLFLOW_TRACKING_URI", "http://10.0.0.5:5000", "MLFLOW_TRACKING_URI: give a port of the loopback"),
        ("SVGAN_MLFLOW_DATABASE", "postgresql://a:secret@host/mlflow", "no password in the URL"),
        ("HOME", "/nowhere", "/nowhere/.mlflow/credentials: no user and password"),
    ]:
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            with pytest.raises(UserError, match=words) as refused:
                mlflow_settings.Settings.read()
            assert "secret" not in str(refused.value)
    text = "[mlflow]\nmlflow_tracking_username = a\nmlflow_tracking_password = b\n"
    write_private(home / "other/.mlflow/credentials", text)
    with monkeypatch.context() as changed:
        changed.setenv("HOME", str(home / "other"))
        with pytest.raises(UserError, match="no password of fewer than 12 characters"):
            mlflow_settings.Settings.read()


def test_secrets_go_to_mlflow_by_file_and_environment(home):
    settings = mlflow_settings.Settings.read()
    settings.home.mkdir()
    told = mlflow_server.environment(settings)
    assert not any(PASSWORD in value for value in told.values())
    secret = [path for path in settings.home.iterdir() if PASSWORD in path.read_text()]
    assert [path.name for path in secret] == ["basic_auth.ini"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in settings.home.iterdir())
    users = settings.home / "users.db"
    users.touch()
    assert mlflow_server.environment(settings) == told
    assert users.exists()
    mlflow_server.environment(mlflow_settings.Settings(**{**vars(settings), "password": "another"}))
    assert not users.exists(), "MLflow takes a changed password only into an empty table"


def test_the_service_is_one_that_systemd_takes(home, tmp_path):
    text = mlflow_server.unit(mlflow_settings.Settings.read())
    assert PASSWORD not in text
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    file = tmp_path / f"{mlflow_settings.SERVICE}.service"
    file.write_text(text)
    told = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60)
    assert file.name not in told.stderr, told.stderr


def call(command, *arguments, module="cluster.mlflow_server"):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", module, command, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def status(url, password=None):
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/experiments/search?max_results=5")
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"svgan:{password}".encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def family(pid):
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def record(client, name):
    """A run with a metric and a file."""
    found = client.get_experiment_by_name("svgan")
    experiment = found.experiment_id if found else client.create_experiment("svgan")
    run = client.create_run(experiment, run_name=name)
    client.log_metric(run.info.run_id, "fvd_short", 23.8)
    client.log_text(run.info.run_id, f"clip of {name}", "clip.txt")
    client.set_terminated(run.info.run_id)
    return run.info.run_id


@pytest.mark.slow
def test_the_database_is_lost_and_restored_with_all_its_runs(home, s3, monkeypatch):
    monkeypatch.setenv("SVGAN_MLFLOW", f"{s3}/mlflow-{os.getpid()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    import mlflow

    settings = mlflow_settings.Settings.read()
    started = call("start")
    assert started.returncode == 0, started.stderr + (settings.home / "server.log").read_text()
    pid = mlflow_settings.running(settings)
    address = settings.address
    assert [status(address), status(address, "wrong"), status(address, PASSWORD)] == [401, 401, 200]
    listening = {
        (link.laddr.ip, link.laddr.port)
        for process in family(pid)
        for link in process.net_connections("inet")
        if link.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", settings.port)}
    for process in psutil.process_iter():
        try:
            assert not any(PASSWORD in part for part in process.cmdline())
        except psutil.Error:
            continue

    client = mlflow.MlflowClient(tracking_uri=address)
    first = record(client, "kept")
    saved = call("save", module="cluster.mlflow_backup")
    assert saved.returncode == 0, saved.stderr
    assert "is running already" in call("run").stderr
    before = family(pid)
    assert call("stop").returncode == 0
    assert not psutil.wait_procs(before, timeout=300)[1]

    shutil.rmtree(settings.home)
    assert call("start").returncode == 0, (settings.home / "server.log").read_text()
    assert client.get_run(first).data.metrics == {"fvd_short": 23.8}
    file = client.download_artifacts(first, "clip.txt", str(home))
    assert Path(file).read_text() == "clip of kept"

    later = record(client, "after the backup")
    refused = call("restore", module="cluster.mlflow_backup")
    assert refused.returncode == 2
    assert "--replace" in refused.stderr
    assert client.get_run(later)
    wrong = call("restore", "mlflow-20200101-000000.dump", module="cluster.mlflow_backup")
    assert wrong.returncode == 2
    assert "no backup mlflow-20200101" in wrong.stderr
    name = saved.stdout.strip()
    assert name in call("list", module="cluster.mlflow_backup").stdout.split()
    restored = call("restore", name, "--replace", module="cluster.mlflow_backup")
    assert restored.returncode == 0, restored.stderr
    with pytest.raises(mlflow.exceptions.MlflowException, match="not found"):
        client.get_run(later)
    assert client.get_run(first).info.status == "FINISHED"


@pytest.mark.slow
def test_the_server_ends_whole_when_its_database_does(home):
    settings = mlflow_settings.Settings.read()
    assert call("start").returncode == 0, (settings.home / "server.log").read_text()
    everyone = family(mlflow_settings.running(settings))
    next(process for process in everyone if process.name() == "postgres").kill()
    assert not psutil.wait_procs(everyone, timeout=300)[1]
    assert "its database has ended" in (settings.home / "server.log").read_text()
    started = time.monotonic()
    assert call("start").returncode == 0, (settings.home / "server.log").read_text()
    assert time.monotonic() - started < 120


@pytest.mark.slow
def test_a_port_that_is_taken_is_said_at_once(home):
    settings = mlflow_settings.Settings.read()
    with socket.create_server(("127.0.0.1", settings.port)):
        refused = call("start")
    assert refused.returncode == 2
    assert refused.stderr.startswith("svgan: MLflow's server or its database has ended; see the lines before this")
    assert "already in use" in (settings.home / "server.log").read_text()
    assert mlflow_settings.running(settings) is None


@pytest.mark.slow
def test_a_storage_that_is_away_costs_the_backup_alone(home, monkeypatch):
    monkeypatch.setenv("SVGAN_MLFLOW", "s3://nobody/mlflow")
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret-key")
    with pytest.raises(UserError, match=r"s3://nobody/mlflow/backup: cannot be used") as refused:
        mlflow_backup.names("s3://nobody/mlflow")
    assert "planted" not in str(refused.value)
