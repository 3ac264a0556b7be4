"""Defaults from a cluster's environment, and passwords that must not be kept."""

import os

import pytest

from svgan.errors import UserError
from sweeps.driver.definition import Study
from sweeps.driver.flags import Flags
from sweeps.ray_runtime import job_submission
from sweeps.storage import environment
from sweeps.storage.paths import default_tracking


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for variable in environment.VARIABLES.values():
        monkeypatch.delenv(variable.name, raising=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SVGAN_WORKERS", "0"),
        ("SVGAN_WORKERS", "two"),
        ("SVGAN_CONCURRENCY", "1.5"),
        ("SVGAN_GPUS_PER_WORKER", "-1"),
        ("SVGAN_GPUS_PER_WORKER", "nan"),
        ("SVGAN_MAX_GPU_HOURS", "0"),
        ("SVGAN_MAX_GPU_HOURS", "inf"),
    ],
)
def test_a_bad_value_names_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    flag = next(flag for flag, variable in environment.VARIABLES.items() if variable.name == name)
    with pytest.raises(UserError, match=f"{name}={value}: must be") as error:
        environment.default(flag)
    assert environment.option(flag) in str(error.value)


@pytest.mark.parametrize(
    ("flag", "url", "remedy"),
    [
        ("tracking", "http://me:geheim@host:5000", "MLFLOW_TRACKING_PASSWORD"),
        ("tracking", "https://geheim@host", "MLFLOW_TRACKING_PASSWORD"),
        ("optuna", "postgresql://me:geheim@host/db", "PGPASSWORD"),
        ("storage", "s3://key:geheim@bucket/runs", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(flag, url, remedy):
    with pytest.raises(UserError, match=f"--{flag}: no password") as error:
        Flags.parse(Study("x", space={}), [f"--{flag}", url])
    assert remedy in str(error.value)
    assert "geheim" not in str(error.value)


def test_a_user_without_a_password_may_stand_in_a_databases_url():
    environment.check_passwordless("--optuna", "postgresql://me@host/db")
    environment.check_passwordless("--storage", "/a/path@with/at")


def test_a_password_in_the_tracking_variable_is_refused_wherever_it_is_read(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:geheim@host")
    for reads in (default_tracking, lambda: Flags.parse(Study("x", space={}), ["--help"])):
        with pytest.raises(UserError, match="MLFLOW_TRACKING_URI: no password"):
            reads()


def test_on_a_cluster_paths_are_of_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    environment.settle()
    assert os.getcwd() == "/"
    monkeypatch.setenv("SVGAN_CLUSTER", "1")
    environment.settle()
    assert os.getcwd() == str(tmp_path)


def test_on_a_cluster_what_is_embedded_stays_when_the_jobs_package_goes(monkeypatch, tmp_path, capsys):
    from sweeps import __main__ as commands

    (tmp_path / "home").mkdir()
    (tmp_path / "package").mkdir()
    monkeypatch.chdir(tmp_path / "package")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SVGAN_CLUSTER", "cluster/gpu.yaml")
    monkeypatch.setenv(job_submission.JOB, "1")
    with pytest.raises(SystemExit):
        commands.main(["embed", "me.mp4", "--domain", "nowhere", "--out", "codes"])
    assert "nowhere: no domain here" in capsys.readouterr().err
    assert os.getcwd() == str(tmp_path / "home")
