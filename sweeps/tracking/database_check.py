"""MLflow answers and its database is of this version, seen without changing anything in it."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from svgan.errors import UserError
from sweeps.tracking.client import one_at_a_time
from sweeps.tracking.mlflow_internals import migrations

DATABASES = ("postgresql", "mysql", "mssql")
LOCK_SECONDS = 2.0  # that SQLite waits for another writer; a check has to be quick
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
# How MLflow's client and urllib3 name the status of an answer that is no JSON.
ANSWERED = re.compile(r"failed with error code (\d+) != 200|too many (\d+) error responses")


def check_tracking(uri: str, experiment: str) -> None:
    """Raise UserError where MLflow could not be used. A database that is not there yet is one to be made.

    MLflow itself migrates an older database that lacks a table without a word (docs/traps.md).
    """
    scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else ""
    if scheme in ("http", "https"):
        _check_server(uri, experiment)
    elif uri.startswith("sqlite:///"):
        with one_at_a_time(uri):
            _check_sqlite(uri, Path(uri.removeprefix("sqlite:///")))
    elif scheme in DATABASES:
        _check_database(uri)
    else:
        raise UserError(f"--tracking {uri}: MLflow keeps nothing there; give http://HOST:PORT or sqlite:///FILE")


def _check_server(uri: str, experiment: str) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        with _impatient():
            MlflowClient(tracking_uri=uri).get_experiment_by_name(experiment)
        return
    except (MlflowException, OSError) as error:
        status = _status(error)
        reason = str(error).splitlines()[0].rpartition(": ")[2][:150]
    if status is None:
        raise UserError(
            f"--tracking {uri}: MLflow is not reachable ({reason}); start it, or leave the flag out for a local file"
        )
    if status in (401, 403):
        raise UserError(f"--tracking {uri}: refused ({status}); set MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN")
    raise UserError(f"--tracking {uri}: answers {status}, but not as MLflow does; see its log")


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """One request and 5 s, in place of MLflow's 7 retries: a check has to be quick."""
    before = {name: os.environ.get(name) for name in IMPATIENT}
    os.environ.update(IMPATIENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _status(error: BaseException) -> int | None:
    """The HTTP status of the answer behind a client's error; None where there was no answer."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    if named := ANSWERED.search(str(error)):
        return int(named[1] or named[2])
    if "not in a valid JSON format" in str(error):
        return 200
    if not isinstance(error, MlflowException) or isinstance(error.__context__, RequestException):
        return None
    return int(error.get_http_status_code())


def _check_sqlite(uri: str, path: Path) -> None:
    if not os.path.exists(path):
        folder = next(parent for parent in path.parents if os.path.exists(parent))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"--tracking {uri}: {folder} cannot be written; choose another")
        return
    if not os.access(path, os.W_OK):
        raise UserError(f"--tracking {uri}: this file cannot be written; choose another, or mend its rights")
    try:
        reading = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=LOCK_SECONDS)
        try:
            tables = {name for (name,) in reading.execute("select name from sqlite_master where type = 'table'")}
            if "alembic_version" in tables:
                found = reading.execute("select version_num from alembic_version").fetchone()
                _check_schema(uri, found[0] if found else None)
            elif tables:
                raise UserError(f"--tracking {uri}: a SQLite file, but not of MLflow; choose another")
        finally:
            reading.close()
    except sqlite3.Error as error:
        raise UserError(f"--tracking {uri}: cannot be read as SQLite ({error}); choose another") from None


def _check_database(uri: str) -> None:
    import sqlalchemy
    from alembic.runtime.migration import MigrationContext

    try:
        engine = sqlalchemy.create_engine(uri)
        try:
            if sqlalchemy.inspect(engine).has_table("alembic_version"):
                with engine.connect() as connection:
                    _check_schema(uri, MigrationContext.configure(connection).get_current_revision())
        finally:
            engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        reason = str(error).splitlines()[0][:150]
        raise UserError(f"--tracking {_without_password(uri)}: MLflow's database cannot be used ({reason})") from None


def _check_schema(uri: str, found: str | None) -> None:
    """`found`: the revision in the database's alembic_version."""
    from alembic.util import CommandError
    from mlflow.version import VERSION

    scripts = migrations()
    ours = scripts and scripts.get_current_head()
    if not scripts or found == ours:
        return
    shown = _without_password(uri)
    try:
        known = found is None or scripts.get_revision(found) is not None
    except CommandError:
        known = False
    if not known:
        raise UserError(
            f"--tracking {shown}: of a newer MLflow than {VERSION} (schema {found}); install that one, or choose "
            "another database"
        )
    raise UserError(
        f"--tracking {shown}: schema {found} is older than this MLflow's ({ours}); back it up, then: "
        f"mlflow db upgrade {shown}"
    )


def _without_password(uri: str) -> str:
    import sqlalchemy

    return sqlalchemy.make_url(uri).render_as_string(hide_password=True)
