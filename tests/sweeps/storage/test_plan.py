"""Flags, the study file, and where things are kept."""

import json

import pytest
from made_plan import PLAN

from svgan.errors import UserError
from sweeps.storage.plan import Plan


def test_a_plan_comes_back_from_its_file(tmp_path):
    own = {
        "digests": (("latents", "abc"),),
        "metrics": ("fvd", "loops"),
        "trials": 2,
        "seconds": 9.0,
        "lengths": (3, 40),
    }
    plan = Plan.from_fields(PLAN | {"folder": str(tmp_path / "toy-1")} | own)
    plan.save()
    assert Plan.load(tmp_path / "toy-1") == plan
    assert plan.tags == {"latents": "abc"}
    assert [plan.search.steps_of(number) for number in (0, 1)] == [3, 40]
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
        ({"max_hours": 0.0}, "--max-hours 0: must be"),
        ({"trial_hours": -1.0}, "--trial-hours -1: must be"),
    ],
)
def test_a_plan_names_the_flag_at_fault(change, names):
    with pytest.raises(UserError, match=names):
        Plan.from_fields(PLAN | change)


def test_a_study_file_of_before_the_newer_fields_loads(tmp_path):
    plan = Plan.from_fields(PLAN | {"folder": str(tmp_path)})
    plan.save()
    fields = json.loads((tmp_path / "study.json").read_text())
    later = ("optuna", "objectives", "grid", "seeds", "promotion_clips", "promotion_seeds")
    for name in (*later, "max_gpu_hours", "max_hours", "trial_hours", "on_end"):
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


def test_studies_of_one_name_in_two_storages_do_not_share_their_scratch():
    assert Plan.from_fields(PLAN).scratch == Plan.from_fields(PLAN).scratch
    assert Plan.from_fields(PLAN).scratch != Plan.from_fields(PLAN | {"storage": "elsewhere"}).scratch
