"""Defaults from a cluster's environment, and passwords that must not be kept."""

import os

import pytest

from svgan.errors import UserError
from sweeps.storage import environment
from sweeps.storage.plan import LEAST, Plan, check_asked, default_tracking, parser


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for variable in environment.VARIABLES.values():
        monkeypatch.delenv(variable.name, raising=False)


def flags():
    return parser("x", "", trials=3, steps=1, clips=2)


def test_a_flag_beats_its_variable_and_that_the_default(monkeypatch):
    assert flags().parse_args([]).workers == 1
    monkeypatch.setenv("SVGAN_WORKERS", "4")
    monkeypatch.setenv("SVGAN_STORAGE", "s3://bucket/runs")
    assert flags().parse_args([]).workers == 4
    assert flags().parse_args([]).storage == "s3://bucket/runs"
    assert flags().parse_args(["--workers", "2"]).workers == 2


def test_help_shows_the_default_in_force_and_its_source(monkeypatch):
    assert "[1, or SVGAN_WORKERS]" in flags().format_help()
    monkeypatch.setenv("SVGAN_WORKERS", "4")
    monkeypatch.setenv("SVGAN_LATENTS", "s3://a/100%")
    told = " ".join(flags().format_help().split())
    assert "[4 from SVGAN_WORKERS]" in told
    assert "[s3://a/100% from SVGAN_LATENTS]" in told


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
    asked = dict.fromkeys(LEAST)
    asked |= dict.fromkeys(("tracking", "optuna", "storage", "latents"))
    check_asked(asked)
    with pytest.raises(UserError, match=f"--{flag}: no password") as error:
        check_asked(asked | {flag: url})
    assert remedy in str(error.value)
    assert "geheim" not in str(error.value)


def test_a_user_without_a_password_may_stand_in_a_databases_url():
    environment.check_passwordless("--optuna", "postgresql://me@host/db")
    environment.check_passwordless("--storage", "/a/path@with/at")


def test_a_password_in_the_tracking_variable_is_refused_wherever_it_is_read(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:geheim@host")
    for reads in (default_tracking, lambda: flags().format_help()):
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
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(SystemExit):
        commands.main(["embed", "me.mp4", "--domain", "nowhere", "--out", "codes"])
    assert "nowhere: no domain here" in capsys.readouterr().err
    assert os.getcwd() == str(tmp_path / "home")


def test_on_a_cluster_a_study_is_resumed_and_seen_by_rays_launcher(monkeypatch):
    from made_plan import PLAN

    from sweeps.driver.conclude import ui_command
    from sweeps.storage.plan import resume_command

    monkeypatch.setenv("SVGAN_CLUSTER", "cluster/onprem.yaml")
    assert resume_command(Plan(**PLAN)) == "ray submit cluster/onprem.yaml sweeps/toy.py -- --resume toy-1"
    assert ui_command("http://127.0.0.1:5000") == "ray attach cluster/onprem.yaml -p 5000, at http://127.0.0.1:5000"
    assert ui_command("http://mlflow.here:80") == "open http://mlflow.here:80"
    monkeypatch.setenv("SVGAN_CLUSTER", "cluster/kuberay.yaml")
    assert resume_command(Plan(**PLAN)).startswith("kubectl delete rayjob svgan-toy; kubectl apply -f cluster/kuberay")
