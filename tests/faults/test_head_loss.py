"""The head of a study is lost with its disk: another machine goes on from --storage alone."""

import shutil

import pytest
from harness import EVERY, FLAGS, Sweep, assert_as_if_nothing_had_happened, messages
from s3_server import BUCKET

from sweeps.search.optuna_store import open_mirror, open_study

pytestmark = pytest.mark.slow


def test_another_machine_finishes_the_study_from_the_storage_alone(
    undisturbed, footage, s3_server, tmp_path, monkeypatch
):
    """Gone are study.json and Optuna's SQLite file. Checkpoints and the record are in S3, MLflow is elsewhere."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    heads = [tmp_path / "first", tmp_path / "second"]
    for head in heads:
        head.mkdir()
    mlflow = f"sqlite:///{tmp_path}/mlflow.db"
    shutil.copy(Sweep.database, tmp_path / "mlflow.db")
    where = ("--storage", f"s3://{BUCKET}/head-loss")
    first = Sweep(heads[0], footage[0], "--name", "moved", *FLAGS, *where, "--tracking", mlflow, holds_at=2 * EVERY + 5)
    first.until_reports(2)
    first.until_held()
    first.kill()
    shutil.rmtree(heads[0])
    # On this one machine the processes of the first head are known to be gone, so that the second need not wait.
    second = Sweep(heads[1], footage[0], "--resume", "moved", *where)
    second.end()
    assert_as_if_nothing_had_happened(second.plan, undisturbed)
    assert "Optuna, trial 0: it was missing" in messages(second.plan)
    for study in (open_study(second.plan), open_mirror(second.plan).study):
        assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE"]
