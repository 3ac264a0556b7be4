"""What this room's tests share. The environment is set before Ray is imported (docs/traps.md)."""

import os
import sqlite3
from pathlib import Path

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "token")


@pytest.fixture(scope="session")
def database(tmp_path_factory) -> Path:
    """A SQLite file that MLflow has migrated once, which takes seconds; tests work on copies."""
    from sweeps.tracking import open_experiment

    folder = tmp_path_factory.mktemp("mlflow")
    open_experiment(f"sqlite:///{folder}/mlflow.db", "other")
    sqlite3.connect(folder / "mlflow.db").close()
    return folder / "mlflow.db"
