"""Backups of MLflow's database, beside its files in S3. The head also makes one every hour.

    python -m cluster.mlflow_backup save
    python -m cluster.mlflow_backup list
    python -m cluster.mlflow_backup restore [NAME]      # the newest; stop the server first

A restore happens as a whole or not at all. It refuses a database with content unless --replace is given. The newest 200
backups are kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import exit_code
from svgan.errors import UserError

if TYPE_CHECKING:
    from cluster.mlflow_settings import Settings

KEPT = 200
CONNECT_SECONDS = 5  # to a PostgreSQL on this host's socket or one network away


@contextmanager
def _plainly(root: str) -> Iterator[None]:
    """Turn errors of the storage into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # every file system has errors of its own
        raise UserError(
            f"{root}/backup: cannot be used ({type(error).__name__}: {str(error)[:150]}); check the bucket and the keys"
        ) from None


def names(root: str) -> list[str]:
    """The existing backups, oldest first."""
    import fsspec

    with _plainly(root):
        files, path = fsspec.core.url_to_fs(f"{root}/backup")
        files.invalidate_cache()
        try:
            found = files.ls(path, detail=False)
        except FileNotFoundError:
            return []
    return sorted(name for entry in found if (name := entry.rsplit("/", 1)[-1]).endswith(".dump"))


def newest(root: str) -> str | None:
    return next(reversed(names(root)), None)


def save(settings: Settings) -> str:
    """Dump the database at one consistent moment, while it is in use; return the backup's name."""
    import fsspec

    from cluster.mlflow_settings import binaries

    name = f"mlflow-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.dump"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        _call([binaries() / "pg_dump", "--format=custom", "--no-owner", f"--file={file}", settings.database])
        with _plainly(settings.root):
            files, path = fsspec.core.url_to_fs(f"{settings.root}/backup")
            files.makedirs(path, exist_ok=True)
            files.put_file(str(file), f"{path}/{name}")
            for old in names(settings.root)[:-KEPT]:
                files.rm_file(f"{path}/{old}")
    return name


def save_or_say(settings: Settings) -> None:
    """Save a backup; if that fails, print why and go on serving."""
    try:
        print(f"backup {save(settings)}", flush=True)
    except UserError as error:
        print(f"no backup: {error}", file=sys.stderr, flush=True)


def is_empty(database: str) -> bool:
    import psycopg

    with psycopg.connect(database, connect_timeout=CONNECT_SECONDS) as connection:
        return not connection.execute("select 1 from pg_tables where schemaname = 'public' limit 1").fetchone()


def restore(settings: Settings, name: str, replace: bool = False) -> None:
    """Restore a backup in one transaction. Raises UserError, and has then changed nothing."""
    import fsspec

    from cluster.mlflow_settings import binaries

    if not replace and not is_empty(settings.database):
        raise UserError("the database has something in it already; give --replace to put the backup in its place")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        with _plainly(settings.root):
            files, path = fsspec.core.url_to_fs(f"{settings.root}/backup/{name}")
            files.get_file(path, str(file))
        flags = [
            "--single-transaction",
            "--exit-on-error",
            "--no-owner",
            *(["--clean", "--if-exists"] if replace else []),
        ]
        _call([binaries() / "pg_restore", *flags, f"--dbname={settings.database}", file])


def _call(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line.lower()), done.stderr.strip())
        raise UserError(f"{Path(command[0]).name}: {reason[:300]}")


def main() -> None:
    from cluster.mlflow_settings import Settings, running

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("save")
    commands.add_parser("list")
    again = commands.add_parser("restore")
    again.add_argument("name", nargs="?", metavar="NAME", help="of a backup, as `list` shows it [the newest]")
    again.add_argument("--replace", action="store_true", help="drop what the database holds")
    asked = parser.parse_args()
    settings = Settings.read()
    if asked.command == "save":
        print(save(settings))
    elif asked.command == "list":
        print("\n".join(names(settings.root)))
    else:
        name = asked.name or newest(settings.root)
        if name is None or name not in names(settings.root):
            raise UserError(f"{settings.root}/backup: no backup {name or 'at all'} there; see `list`")
        restore(settings, name, asked.replace)
        print(f"restored {name}" + ("; start the server again to see it" if running(settings) else ""))


if __name__ == "__main__":
    sys.exit(exit_code(main))
