"""The flags of every study file, their defaults, and the command that resumes a study."""

import re

import pytest
from made_plan import PLAN

from svgan.errors import UserError
from sweeps.driver import new_plan
from sweeps.driver.conclude import ui_command
from sweeps.driver.definition import Study
from sweeps.driver.flags import Flags, judged_on, resume_command
from sweeps.storage import environment
from sweeps.storage.plan import Plan


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for variable in environment.VARIABLES.values():
        monkeypatch.delenv(variable.name, raising=False)


def flags(*arguments, **of_study):
    return Flags.parse(Study("x", space={}, **{"trials": 3, "steps": 1} | of_study), arguments)


def help_of(capsys, *arguments, **of_study):
    with pytest.raises(SystemExit) as ended:
        flags(*arguments, "--help", **of_study)
    assert not ended.value.code
    return capsys.readouterr().out


def test_a_flag_beats_its_variable_and_that_the_default(monkeypatch):
    assert flags().compute.workers == 1
    monkeypatch.setenv("SVGAN_WORKERS", "4")
    monkeypatch.setenv("SVGAN_STORAGE", "s3://bucket/runs")
    assert flags().compute.workers == 4
    assert flags().output.storage == "s3://bucket/runs"
    assert flags("--workers", "2").compute.workers == 2


def test_help_shows_the_default_in_force_and_its_source(monkeypatch, capsys):
    assert "[1, or SVGAN_WORKERS]" in help_of(capsys)
    monkeypatch.setenv("SVGAN_WORKERS", "4")
    monkeypatch.setenv("SVGAN_LATENTS", "s3://a/100%")
    told = " ".join(help_of(capsys).split())
    assert "[4 from SVGAN_WORKERS]" in told
    assert "[s3://a/100% from SVGAN_LATENTS]" in told


def test_on_a_cluster_a_study_is_resumed_and_seen_by_rays_launcher(monkeypatch):
    monkeypatch.setenv("SVGAN_CLUSTER", "cluster/onprem.yaml")
    assert resume_command(Plan.from_fields(PLAN)) == "ray submit cluster/onprem.yaml sweeps/toy.py -- --resume toy-1"
    assert ui_command("http://127.0.0.1:5000") == "ray attach cluster/onprem.yaml -p 5000, at http://127.0.0.1:5000"
    assert ui_command("http://mlflow.here:80") == "open http://mlflow.here:80"
    monkeypatch.setenv("SVGAN_CLUSTER", "cluster/kuberay.yaml")
    assert resume_command(Plan.from_fields(PLAN)).startswith(
        "kubectl delete rayjob svgan-toy; kubectl apply -f cluster/kuberay"
    )


def test_the_flags_are_these_and_no_others(capsys):
    listed = re.findall(r"^ {1,4}(--?[a-z][a-z-]*)(?:, (--[a-z-]+))?", help_of(capsys), re.MULTILINE)
    assert {option for options in listed for option in options if option} == {
        *("-h", "--help", "--trials", "--steps", "--clips", "--seed", "--latents", "--workers", "--gpus-per-worker"),
        *("--concurrency", "--storage", "--tracking", "--optuna", "--grid", "--experiment", "--name", "--resume"),
        *("--patience", "--objectives", "--seeds", "--max-gpu-hours", "--domain", "--pictures", "--footage"),
        *("--promotion-clips", "--promotion-seeds", "--seconds", "--max-hours", "--trial-hours", "--on-end"),
        *("--take-over", "--sampler", "--pruner", "--enqueue", "--warm-start", "--checkpoint-minutes"),
    }


@pytest.mark.parametrize(
    "given",
    [
        *(["--steps", "2"], ["--seconds", "9"], ["--clips", "0"], ["--seed", "1"], ["--grid"]),
        *(["--objectives", "fvd_short,fvd_long"], ["--seeds", "2"], ["--promotion-clips", "8"], ["--footage"]),
        *(["--sampler", "gp"], ["--pruner", "median"], ["--warm-start", "x"]),
        *(["--promotion-seeds", "2"], ["--latents", "a"], ["--domain", "a"], ["--pictures", "a"], ["--workers", "2"]),
        *(["--gpus-per-worker", "1"], ["--concurrency", "2"], ["--tracking", "http://here"]),
        *(["--optuna", "journal"], ["--experiment", "a"], ["--name", "a"], ["--checkpoint-minutes", "3"]),
    ],
    ids=lambda given: given[0],
)
def test_a_flag_beside_resume_is_refused_for_it_is_remembered(given):
    with pytest.raises(UserError, match=f"^{given[0]}: a study's flags are remembered; leave it out with --resume$"):
        flags("--resume", "x", *given).check_resumable(Study("x", space={}, trials=3, steps=1))


def test_another_place_other_limits_more_patience_and_another_end_may_stand_beside_resume(tmp_path):
    given = {"max_gpu_hours": 3.0, "max_hours": 4.0, "trial_hours": 5.0, "patience": 60.0, "on_end": "mail me"}
    study = Study("toy", space={}, trials=4, steps=40)
    kept = PLAN | {"folder": str(tmp_path / "toy-1"), "max_hours": 9.0, "on_end": "mail you"}
    Plan.from_fields(kept).save()

    def resume(*words):
        return new_plan.resumed(study, Flags.parse(study, ["--resume", "toy-1", "--storage", str(tmp_path), *words]))

    assert resume() == Plan.from_fields(kept)
    words = [word for name, value in given.items() for word in (environment.option(name), str(value))]
    assert resume(*words) == Plan.from_fields(kept | given)


@pytest.mark.parametrize(
    ("given", "gpu", "expected"),
    [
        ([], False, (64, 0, 1)),
        ([], True, (256, 2048, 3)),
        (["--clips", "0"], True, (0, 0, 1)),
        (["--clips", "128", "--promotion-clips", "512"], True, (128, 512, 1)),
        (["--promotion-seeds", "5"], True, (256, 2048, 5)),
        (["--promotion-clips", "512", "--promotion-seeds", "2"], False, (64, 512, 2)),
    ],
)
def test_the_ladder_is_higher_where_there_are_gpus(given, gpu, expected):
    assert tuple(judged_on(flags(*given).judging, gpu).values()) == expected
