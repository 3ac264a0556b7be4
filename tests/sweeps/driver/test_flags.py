"""The flags of every study file, their defaults, and the command that resumes a study."""

import pytest
from made_plan import PLAN

from sweeps.driver.conclude import ui_command
from sweeps.driver.flags import judged_on, parser, resume_command
from sweeps.storage import environment
from sweeps.storage.plan import Plan


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


def test_on_a_cluster_a_study_is_resumed_and_seen_by_rays_launcher(monkeypatch):
    monkeypatch.setenv("SVGAN_CLUSTER", "cluster/onprem.yaml")
    assert resume_command(Plan(**PLAN)) == "ray submit cluster/onprem.yaml sweeps/toy.py -- --resume toy-1"
    assert ui_command("http://127.0.0.1:5000") == "ray attach cluster/onprem.yaml -p 5000, at http://127.0.0.1:5000"
    assert ui_command("http://mlflow.here:80") == "open http://mlflow.here:80"
    monkeypatch.setenv("SVGAN_CLUSTER", "cluster/kuberay.yaml")
    assert resume_command(Plan(**PLAN)).startswith("kubectl delete rayjob svgan-toy; kubectl apply -f cluster/kuberay")


def test_the_flags_are_these_and_no_others():
    flags = {
        option for action in parser("x", "", trials=1, steps=1, clips=2)._actions for option in action.option_strings
    }
    assert flags == {
        *("-h", "--help", "--trials", "--steps", "--clips", "--seed", "--latents", "--workers", "--gpus-per-worker"),
        *("--concurrency", "--storage", "--tracking", "--optuna", "--grid", "--experiment", "--name", "--resume"),
        *("--patience", "--objectives", "--seeds", "--max-gpu-hours", "--domain", "--pictures", "--footage"),
        *("--promotion-clips", "--promotion-seeds", "--seconds"),
    }


@pytest.mark.parametrize(
    ("flags", "gpu", "expected"),
    [
        ([], False, (64, 0, 1)),
        ([], True, (256, 2048, 3)),
        (["--clips", "0"], True, (0, 0, 1)),
        (["--clips", "128", "--promotion-clips", "512"], True, (128, 512, 1)),
        (["--promotion-seeds", "5"], True, (256, 2048, 5)),
        (["--promotion-clips", "512", "--promotion-seeds", "2"], False, (64, 512, 2)),
    ],
)
def test_the_ladder_is_higher_where_there_are_gpus(flags, gpu, expected):
    asked = parser("x", "", trials=1, steps=1, clips=None).parse_args(flags)
    assert judged_on(asked, gpu) == expected
