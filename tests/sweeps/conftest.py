"""What this room's tests share."""

import sqlite3
from pathlib import Path

import made_studies as made
import pytest


@pytest.fixture(scope="session")
def database(tmp_path_factory) -> Path:
    """A SQLite file that MLflow has migrated once, which takes seconds; tests work on copies."""
    from sweeps.tracking import open_experiment

    folder = tmp_path_factory.mktemp("mlflow")
    open_experiment(f"sqlite:///{folder}/mlflow.db", "other")
    sqlite3.connect(folder / "mlflow.db").close()
    return folder / "mlflow.db"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def study(here, database):
    """Makes a study with trials of the given outcomes in the working folder, which is its storage too."""
    return lambda name, *outcomes, **change: made.study(here, database, name, outcomes, **change)
