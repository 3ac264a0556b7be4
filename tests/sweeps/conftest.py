"""What this room's tests share."""

import sqlite3
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def database(tmp_path_factory) -> Path:
    """A SQLite file that MLflow has migrated once, which takes seconds; tests work on copies."""
    from sweeps.tracking import open_experiment

    folder = tmp_path_factory.mktemp("mlflow")
    open_experiment(f"sqlite:///{folder}/mlflow.db", "other")
    sqlite3.connect(folder / "mlflow.db").close()
    return folder / "mlflow.db"
