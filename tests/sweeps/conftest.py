"""What this room's tests share."""

import made_studies as made
import pytest
from made_tracking import checkpoint_folder, generator, plan, tracking  # noqa: F401  (fixtures)


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
