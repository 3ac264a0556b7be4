"""MLflow's server on a cluster's head, with PostgreSQL, artifacts on S3, and a password.

    python -m cluster.mlflow_server start       # a systemd service where there is systemd, else a process of its own
    python -m cluster.mlflow_server stop

It reads the environment: SVGAN_MLFLOW (a URL: artifacts in artifacts/, backups of the database in backup/),
MLFLOW_TRACKING_URI (a port of the loopback, where it listens), and ~/.mlflow/credentials (the user and password that it
asks for). SVGAN_MLFLOW_DATABASE (postgresql://user@host/name, password in ~/.pgpass) selects a database of your own
instead of the head's; SVGAN_MLFLOW_HOME selects another folder than ~/svgan-mlflow.

The head's PostgreSQL listens on no port, only on a socket in a folder that its user alone can enter. A new database is
filled from the newest backup, and backed up every hour (`cluster.mlflow_backup`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from cluster import exit_code
from cluster.environment import keep_secret, write_private
from cluster.mlflow_settings import LOOPBACK, SERVICE, Settings, alone, binaries, running
from svgan.errors import UserError, one_line

# A restore of a database of years takes a minute, MLflow's first migration of it another, on a head that starts Ray.
START_SECONDS = 180
BACKUP_SECONDS = 3600  # what a lost disk may cost
HEALTH_SECONDS = 5  # of one request; the start asks again
LOOK_SECONDS = 0.2
REPO = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def postgresql(settings: Settings, log: IO[str]) -> Iterator[subprocess.Popen[bytes] | None]:
    """Run the head's own PostgreSQL during the block, and create it if missing; yields None if another database is
    used.
    """
    if not settings.own:
        yield None
        return
    found, data, socket = binaries(), settings.home / "postgresql", settings.home / "socket"
    other: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("postgres")
        other = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        settings.home.chmod(0o711)
    for folder in (data, socket):
        folder.mkdir(mode=0o700, exist_ok=True)
        if other:
            os.chown(folder, other["user"], other["group"])
    common: dict[str, Any] = {"stdout": log, "stderr": log, "cwd": settings.home, **other}
    if not (data / "PG_VERSION").exists():
        made = subprocess.run(
            [found / "initdb", "-D", data, "-U", "svgan", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"],
            **common,
        )
        if made.returncode:
            raise UserError(f"{data}: PostgreSQL's files cannot be made; see the lines before this in the log")
    flags = {"listen_addresses": "", "unix_socket_directories": socket, "unix_socket_permissions": "0700"}
    server = subprocess.Popen(
        [found / "postgres", "-D", data, *(part for item in flags.items() for part in ("-c", "{}={}".format(*item)))],
        start_new_session=True,
        **common,
    )
    try:
        yield server
    finally:
        server.send_signal(signal.SIGINT)  # fast and clean: clients are cut off
        server.wait()


def prepare_database(settings: Settings, server: subprocess.Popen[bytes] | None) -> None:
    """Wait for PostgreSQL; create a missing database, and fill a new one from the newest backup."""
    import psycopg

    from cluster import mlflow_backup

    name = urlsplit(settings.database).path.lstrip("/")
    upkeep = settings.database.replace(f"/{name}", "/postgres", 1) if settings.own else settings.database
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with psycopg.connect(upkeep, autocommit=True, connect_timeout=mlflow_backup.CONNECT_SECONDS) as connection:
                if (
                    settings.own
                    and not connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone()
                ):
                    connection.execute(f'create database "{name}"'.encode())
            break
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline or (server and server.poll() is not None):
                raise UserError(f"PostgreSQL cannot be reached ({one_line(error)}); see its lines in the log") from None
            time.sleep(LOOK_SECONDS)
    if mlflow_backup.is_empty(settings.database) and (newest := mlflow_backup.newest(settings.root)):
        mlflow_backup.restore(settings, newest)
        print(f"the new database was filled from {newest}", flush=True)


def environment(settings: Settings) -> dict[str, str]:
    """The variables for `mlflow server`. Secrets go by environment or file, because everybody can see command lines."""
    authentication = settings.home / "basic_auth.ini"
    users = settings.home / "users.db"
    lines = {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": f"sqlite:///{users}",
        "admin_username": settings.user,
        "admin_password": settings.password,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": "60",  # a check is made slow on purpose: 0.1 to 0.2 s of CPU
    }
    text = "[mlflow]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())
    if not authentication.exists() or authentication.read_text() != text:
        users.unlink(missing_ok=True)  # MLflow takes the password only into an empty table
        write_private(authentication, text)
    key = settings.home / "flask_key"
    keep_secret(key, secrets.token_hex(32))
    told = {
        "MLFLOW_BACKEND_STORE_URI": settings.database.replace("postgresql://", "postgresql+psycopg://", 1),
        "MLFLOW_ARTIFACTS_DESTINATION": f"{settings.root}/artifacts",
        "MLFLOW_AUTH_CONFIG_PATH": str(authentication),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": key.read_text(),
        # gunicorn, because on a busy machine uvicorn's health check kills its workers (docs/traps.md).
        "MLFLOW_GUNICORN_OPTS": "--threads 8 --timeout 600 --graceful-timeout 5",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")} | told


def run(settings: Settings) -> None:
    """Serve until SIGTERM. When one of the two servers ends, the other is ended too."""
    from cluster import mlflow_backup

    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(settings), postgresql(settings, sys.stderr) as database:
        prepare_database(settings, database)
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", LOOPBACK]
        server = subprocess.Popen(
            [*command, "--port", str(settings.port), "--workers", "2"],
            env=environment(settings),
            start_new_session=True,
        )
        asked = False

        def stop(*_: object) -> None:
            nonlocal asked
            asked = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        due = time.monotonic() + BACKUP_SECONDS
        try:
            while not asked and server.poll() is None and (database is None or database.poll() is None):
                time.sleep(LOOK_SECONDS)
                if time.monotonic() > due:
                    due += BACKUP_SECONDS
                    mlflow_backup.save_or_say(settings)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait()
        if asked:
            mlflow_backup.save_or_say(settings)
        else:
            raise UserError("MLflow's server or its database has ended; see the lines before this in the log")


def answers(settings: Settings) -> bool:
    try:
        with urllib.request.urlopen(f"{settings.address}/health", timeout=HEALTH_SECONDS) as reply:
            return reply.status == 200
    except OSError:
        return False


def start(settings: Settings) -> None:
    """Start the server unless it runs, and wait until it answers."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    log, begun = settings.home / "server.log", None
    if running(settings) is None:
        if systemd():
            as_root("tee", f"/etc/systemd/system/{SERVICE}.service", text=unit(settings))
            as_root("systemctl", "daemon-reload")
            as_root("systemctl", "enable", "--quiet", SERVICE)
            as_root("systemctl", "restart", SERVICE)
        else:
            with log.open("a") as file:
                begun = subprocess.Popen(
                    [sys.executable, "-m", "cluster.mlflow_server", "run"],
                    cwd=REPO,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                )
    deadline = time.monotonic() + START_SECONDS
    while not (running(settings) and answers(settings)):
        if begun and begun.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines()[-1].removeprefix("svgan: ")
            raise UserError(f"{said} ({log})")
        if time.monotonic() > deadline:
            raise UserError(f"MLflow's server does not answer at {settings.address}; its log is {log}")
        time.sleep(LOOK_SECONDS)
    print(f"MLflow answers at {settings.address}")


def stop(settings: Settings) -> None:
    """Stop the server, then save a backup and stop its database; wait until both have ended."""
    if (process := running(settings)) is None:
        print("MLflow's server is not running")
        return
    if systemd():
        as_root("systemctl", "stop", SERVICE)
    else:
        os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + START_SECONDS
    while running(settings) is not None:
        if time.monotonic() > deadline:
            raise UserError(f"process {process}: MLflow's server does not end; see {settings.home / 'server.log'}")
        time.sleep(LOOK_SECONDS)


def systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def as_root(*command: str, text: str = "") -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    subprocess.run([*sudo, *command], input=text, text=True, stdout=subprocess.DEVNULL, check=True)


def unit(settings: Settings) -> str:
    """The systemd service, run by the current user: it starts at boot, and restarts the server if it ends."""
    log = settings.home / "server.log"
    return f"""[Unit]
Description=MLflow's server of svgan
After=network-online.target
Wants=network-online.target

[Service]
User={pwd.getpwuid(os.getuid()).pw_name}
WorkingDirectory={REPO}
ExecStart=/bin/bash -c '. ~/.svgan_env && exec {sys.executable} -m cluster.mlflow_server run'
StandardOutput=append:{log}
StandardError=append:{log}
KillMode=mixed
TimeoutStopSec=120
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = {"start": start, "stop": stop, "run": run}
    parser.add_argument("command", choices=commands)
    commands[parser.parse_args().command](Settings.read())


if __name__ == "__main__":
    sys.exit(exit_code(main))
