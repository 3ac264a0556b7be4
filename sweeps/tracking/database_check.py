"""MLflow answers and its database is of this version, seen without changing anything in it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from svgan.errors import UserError
from sweeps.tracking.client import one_at_a_time

DATABASES = ("postgresql", "mysql", "mssql")


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
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    ask = f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(experiment)}"
    try:
        answer = http_request(get_default_host_creds(uri), ask, "GET", max_retries=0, timeout=5, raise_on_status=False)
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0].rpartition(": ")[2][:150]
        raise UserError(
            f"--tracking {uri}: MLflow is not reachable ({reason}); start it, or leave the flag out for a local file"
        ) from None
    if answer.status_code in (401, 403):
        raise UserError(
            f"--tracking {uri}: refused ({answer.status_code}); set MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN"
        )
    if answer.status_code not in (200, 404) or not answer.text.lstrip().startswith("{"):
        raise UserError(f"--tracking {uri}: answers {answer.status_code}, but not as MLflow does; see its log")


def _check_sqlite(uri: str, path: Path) -> None:
    if not os.path.exists(path):
        folder = next(parent for parent in path.parents if os.path.exists(parent))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"--tracking {uri}: {folder} cannot be written; choose another")
        return
    if not os.access(path, os.W_OK):
        raise UserError(f"--tracking {uri}: this file cannot be written; choose another, or mend its rights")
    try:
        reading = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=2)
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
    from mlflow.store.db.utils import _get_schema_version

    try:
        engine = sqlalchemy.create_engine(uri)
        try:
            if sqlalchemy.inspect(engine).has_table("alembic_version"):
                _check_schema(uri, _get_schema_version(engine))
        finally:
            engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        reason = str(error).splitlines()[0][:150]
        raise UserError(f"--tracking {_without_password(uri)}: MLflow's database cannot be used ({reason})") from None


def _check_schema(uri: str, found: str | None) -> None:
    """`found`: the revision in the database's alembic_version."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from mlflow import __version__ as version
    from mlflow.store.db.utils import _get_alembic_config, _get_latest_schema_revision

    ours = _get_latest_schema_revision()
    if found == ours:
        return
    shown = _without_password(uri)
    try:
        known = found is None or ScriptDirectory.from_config(_get_alembic_config("")).get_revision(found) is not None
    except CommandError:
        known = False
    if not known:
        raise UserError(
            f"--tracking {shown}: of a newer MLflow than {version} (schema {found}); install that one, or choose "
            "another database"
        )
    raise UserError(
        f"--tracking {shown}: schema {found} is older than this MLflow's ({ours}); back it up, then: "
        f"mlflow db upgrade {shown}"
    )


def _without_password(uri: str) -> str:
    import sqlalchemy

    return sqlalchemy.make_url(uri).render_as_string(hide_password=True)
