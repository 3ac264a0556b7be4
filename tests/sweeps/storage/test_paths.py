"""Where a study's things lie."""

from pathlib import Path

from sweeps.storage.paths import absolute, study_folder


def test_locations_become_absolute_and_urls_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("runs") == f"{tmp_path}/runs"
    assert absolute("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert absolute("sqlite:////a/b.db") == "sqlite:////a/b.db"
    for url in ("s3://bucket/runs", "http://host:5000", "postgresql://host/db"):
        assert absolute(url) == url
    assert study_folder("s3://bucket/runs", "n") == Path(tmp_path, "runs", "n")
    assert study_folder(f"{tmp_path}/elsewhere", "n") == Path(tmp_path, "elsewhere", "n")
