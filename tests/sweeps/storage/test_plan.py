"""Flags, the study file, and where things are kept."""

import json
from pathlib import Path

import pytest
from made_plan import PLAN

from svgan.errors import UserError
from sweeps.storage.plan import Plan, absolute, judged_on, parser, study_folder


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


def test_a_plan_comes_back_from_its_file(tmp_path):
    own = {
        "digests": (("latents", "abc"),),
        "metrics": ("fvd", "loops"),
        "trials": 2,
        "seconds": 9.0,
        "lengths": (3, 40),
    }
    plan = Plan(**PLAN | {"folder": str(tmp_path / "toy-1")} | own)
    plan.save()
    assert Plan.load(tmp_path / "toy-1") == plan
    assert plan.tags == {"latents": "abc"}
    assert [plan.length(number) for number in (0, 1)] == [3, 40]
    assert [path.name for path in (tmp_path / "toy-1").iterdir()] == ["study.json"]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"name": "a/b"}, "--name"),
        ({"trials": 0}, "--trials"),
        ({"trials": 1}, "--trials"),
        ({"steps": 0}, "--steps"),
        ({"workers": 0}, "--workers"),
        ({"concurrency": 0}, "--concurrency"),
        ({"clips": 1}, "--clips"),
        ({"clips": -1}, "--clips"),
        ({"gpus_per_worker": -0.5}, "--gpus-per-worker"),
        ({"promotion_clips": 1}, "--promotion-clips 1: a distance needs at least 2"),
        ({"promotion_seeds": 0}, "--promotion-seeds 0: must be at least 1"),
        ({"seeds": 0}, "--seeds 0: must be at least 1"),
        ({"grid": {"seed": [0, 1, 2, 3]}, "seeds": 2}, "--grid seed: with --seeds 2"),
        ({"grid": {"width": [8, 16], "seed": [0, 1, 2]}}, "--trials 4: the grid has 6 points"),
        ({"patience": 0.0}, "--patience"),
        ({"max_gpu_hours": 0.0}, "--max-gpu-hours 0: must be"),
        ({"max_gpu_hours": float("nan")}, "--max-gpu-hours nan: must be"),
    ],
)
def test_a_plan_names_the_flag_at_fault(change, names):
    with pytest.raises(UserError, match=names):
        Plan(**PLAN | change)


def test_a_study_file_of_before_the_newer_fields_loads(tmp_path):
    plan = Plan(**PLAN | {"folder": str(tmp_path)})
    plan.save()
    fields = json.loads((tmp_path / "study.json").read_text())
    for name in ("optuna", "objectives", "grid", "seeds", "max_gpu_hours", "promotion_clips", "promotion_seeds"):
        del fields[name]
    (tmp_path / "study.json").write_text(json.dumps(fields))
    assert Plan.load(tmp_path) == plan


def test_a_missing_damaged_or_newer_study_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such study"):
        Plan.load(tmp_path)
    file = tmp_path / "study.json"
    for text in ("{", "[]", json.dumps({"format": 1, "name": "x"})):
        file.write_text(text)
        with pytest.raises(UserError, match="unreadable study file"):
            Plan.load(tmp_path)
    file.write_text(json.dumps({"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        Plan.load(tmp_path)


def test_locations_become_absolute_and_urls_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("runs") == f"{tmp_path}/runs"
    assert absolute("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert absolute("sqlite:////a/b.db") == "sqlite:////a/b.db"
    for url in ("s3://bucket/runs", "http://host:5000", "postgresql://host/db"):
        assert absolute(url) == url
    assert study_folder("s3://bucket/runs", "n") == Path(tmp_path, "runs", "n")
    assert study_folder(f"{tmp_path}/elsewhere", "n") == Path(tmp_path, "elsewhere", "n")


def test_studies_of_one_name_in_two_storages_do_not_share_their_scratch():
    assert Plan(**PLAN).scratch == Plan(**PLAN).scratch
    assert Plan(**PLAN).scratch != Plan(**PLAN | {"storage": "elsewhere"}).scratch


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
