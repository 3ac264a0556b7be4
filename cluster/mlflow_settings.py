"""The MLflow server's settings, read from the environment, and its installed and running parts."""

from __future__ import annotations

import configparser
import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from filelock import Timeout

from svgan.errors import UserError
from svgan.io import process_lock

LOOPBACK, DATABASE, SERVICE = "127.0.0.1", "mlflow", "svgan-mlflow"


LEAST_PASSWORD = 12


@dataclass(frozen=True)
class Settings:
    """root: URL of artifacts and backups. own: whether the database is the head's PostgreSQL, with its socket in
    `home`.
    """

    home: Path
    root: str
    port: int
    user: str
    password: str
    database: str

    @property
    def own(self) -> bool:
        return not os.environ.get("SVGAN_MLFLOW_DATABASE")

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @classmethod
    def read(cls) -> Settings:
        """Read the settings from the environment. Raises UserError."""
        home = Path(os.environ.get("SVGAN_MLFLOW_HOME") or "~/svgan-mlflow").expanduser().absolute()
        root = os.environ.get("SVGAN_MLFLOW", "")
        if not root:
            raise UserError("SVGAN_MLFLOW: not set; give a URL for MLflow's files, such as s3://bucket/mlflow")
        tracking = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
        if tracking.scheme != "http" or tracking.hostname not in (LOOPBACK, "localhost"):
            raise UserError(f"MLFLOW_TRACKING_URI: give a port of the loopback to listen on: http://{LOOPBACK}:5000")
        credentials = Path("~/.mlflow/credentials").expanduser()
        told = configparser.ConfigParser(interpolation=None)
        told.read(credentials)
        try:
            user, password = (told["mlflow"][f"mlflow_tracking_{name}"] for name in ("username", "password"))
        except KeyError:
            raise UserError(
                f"{credentials}: no user and password in it; python -m cluster.environment makes it"
            ) from None
        if len(password) < LEAST_PASSWORD:
            raise UserError(f"{credentials}: MLflow takes no password of fewer than {LEAST_PASSWORD} characters")
        database = os.environ.get("SVGAN_MLFLOW_DATABASE") or (
            f"postgresql:///{DATABASE}?host={quote(str(home / 'socket'), safe='')}&user=svgan"
        )
        if urlsplit(database).password:
            raise UserError("SVGAN_MLFLOW_DATABASE: no password in the URL, for programs show it; put it in ~/.pgpass")
        return cls(home, root.rstrip("/"), tracking.port or 5000, user, password, database)


def binaries() -> Path:
    """The folder of initdb, postgres, pg_dump and pg_restore, which Debian keeps off the PATH."""
    on_path = shutil.which("initdb")
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)]
    folders += [Path(on_path).resolve().parent] if on_path else []
    for folder in folders:
        if (folder / "initdb").exists():
            return folder
    raise UserError("PostgreSQL is not installed; apt-get install postgresql (cluster/node_setup.sh --postgresql)")


def _version(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold the lock of the one server of its folder; the file tells `stop` which process that is."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(process_lock.hold(settings.home / "pid", str(os.getpid())))
        except Timeout:
            raise UserError(f"{settings.home}: MLflow's server is running already") from None
        yield


def running(settings: Settings) -> int | None:
    """The id of the process in `run`, None if there is none."""
    file = settings.home / "pid"
    return int(file.read_text() or 0) or None if process_lock.is_held(file) else None
