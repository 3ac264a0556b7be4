"""A study that grows: more trials and enqueued points, at its start and at --resume."""

import pytest
from made_plan import PLAN
from played_tune import PlayedTune
from ray.tune.search import Searcher

from svgan.errors import UserError
from sweeps.driver.definition import Study
from sweeps.driver.flags import Flags
from sweeps.driver.new_plan import asked_points, decided_search, resumed
from sweeps.record.entries import Queued
from sweeps.search.optuna_store import open_log
from sweeps.storage.plan import Plan

METRIC = "latent_fd_best"
CONTROLS = [{"gap_weight": 0.0}, {"gap_weight": 1.0}]


def space(trial):
    found = {
        "gap_weight": trial.suggest_float("gap_weight", 0, 20),
        "critic": trial.suggest_categorical("critic", ["a", "b"]),
    }
    if found["critic"] == "b":
        found["width"] = trial.suggest_int("width", 8, 64, step=8)
    return found


STUDY = Study("toy", space=space, controls=CONTROLS, trials=4, steps=40)


def resume(folder, *words, study=STUDY):
    """The plan of a --resume, kept as the driver keeps it."""
    plan = resumed(study, Flags.parse(study, ["--resume", "toy-1", "--storage", str(folder), *words]))
    plan.save()
    return plan


@pytest.fixture
def plan(tmp_path):
    kept = Plan.from_fields(PLAN | {"storage": str(tmp_path), "folder": str(tmp_path / "toy-1")})
    kept.save()
    return kept


def drive(plan, most=99):
    """A driver that finishes up to `most` trials; their parameters."""
    played, found = PlayedTune(plan, space, CONTROLS), []
    while len(found) < most and (given := played.suggest("t")) != Searcher.FINISHED:
        found.append(given["params"])
        played.on_trial_complete("t", {"step": 40, METRIC: given["params"]["gap_weight"], "finished": True})
    return found


def test_a_finished_study_goes_on_with_more_trials(plan, tmp_path):
    first = drive(plan)
    assert len(first) == 4
    assert drive(resume(tmp_path)) == []
    grown = resume(tmp_path, "--trials", "7")
    assert (grown.search.trials, Plan.load(tmp_path / "toy-1")) == (7, grown), "it is remembered"
    assert len(drive(grown)) == 3
    assert drive(resume(tmp_path, "--trials", "7")) == [], "as many as there are is nothing to do"
    assert len(PlayedTune(grown, space, CONTROLS).study.get_trials()) == 7


def test_enqueued_points_run_before_anything_is_proposed_and_raise_the_number_of_trials(plan, tmp_path):
    drive(plan, most=3)
    grown = resume(tmp_path, "--enqueue", "gap_weight=3,critic=a", "gap_weight=5")
    assert grown.search.trials == 6
    found = drive(grown)
    assert found[0] == {"gap_weight": 3, "critic": "a"}
    assert found[1]["gap_weight"] == 5
    assert len(found) == 3
    trials = PlayedTune(grown, space, CONTROLS).study.get_trials()
    assert [trial.user_attrs.get("control", False) for trial in trials] == [True, True, *[False] * 4]


@pytest.mark.parametrize("died", ["before its driver began", "after its driver began", "after a trial had begun"])
def test_the_same_command_after_a_death_adds_nothing_again(plan, tmp_path, died):
    command = ("--enqueue", "gap_weight=3,critic=a", "--trials", "6")
    drive(plan, most=3)
    grown = resume(tmp_path, *command)
    found = []
    if died != "before its driver began":
        PlayedTune(grown, space, CONTROLS)
    if died == "after a trial had begun":
        found = drive(grown, most=1)
    again = resume(tmp_path, *command)
    assert again == grown
    assert resume(tmp_path) == grown, "a --resume alone does what that command wanted"
    found += drive(again)
    assert found[0] == {"gap_weight": 3, "critic": "a"}
    assert len(found) == 3
    queued = [entry for entry in open_log(plan).read() if isinstance(entry, Queued) and not entry.control]
    assert [point for entry in queued for point in entry.points] == [{"gap_weight": 3, "critic": "a"}]


@pytest.mark.parametrize(
    ("words", "trials"), [([], 4), (["--enqueue", "gap_weight=3", "critic=b"], 6), (["--enqueue", "critic=a"], 5)]
)
def test_a_new_study_has_a_trial_more_for_each_point(words, trials):
    asked = Flags.parse(STUDY, words)
    points = asked_points(STUDY, asked.enqueue, {})
    search = decided_search(STUDY, asked.search, {}, points)
    assert (search.trials, search.controls, len(search.enqueued)) == (trials, 2, trials - 4)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--trials", "3"], "--trials 3: this study has 4 trials; ask for 4 or more"),
        (
            ["--trials", "4", "--enqueue", "critic=a"],
            "--trials 4: this study has 4 trials and 1 more points; ask for 5",
        ),
        (["--enqueue"], "--enqueue: give a point behind it"),
        (["--enqueue", "gap_weight"], "--enqueue gap_weight: write FIELD=VALUE,FIELD=VALUE"),
        (["--enqueue", "critic=a,critic=b"], "--enqueue critic=a,critic=b: critic is there twice"),
        (["--enqueue", "depth=3"], "--enqueue depth=3: depth is no parameter of .* one of critic, gap_weight, width"),
        (
            ["--enqueue", "critic=a,width=8"],
            "--enqueue critic=a,width=8: width is no parameter .*, or not beside these",
        ),
        (["--enqueue", "gap_weight=30"], "--enqueue gap_weight=30: the study's space has it otherwise .*high=20"),
        (["--enqueue", "gap_weight=much"], "--enqueue gap_weight=much: the study's space does not take it"),
        (["--enqueue", "critic=c"], "--enqueue critic=c: the study's space does not take it"),
        (["--enqueue", "width=12"], "--enqueue width=12: the study's space has it otherwise"),
        (["--enqueue", "width=16.5"], "--enqueue width=16.5: the study's space has it otherwise"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_and_nothing_is_kept(plan, tmp_path, words, told):
    with pytest.raises(UserError, match=f"^{told}"):
        resume(tmp_path, *words)
    assert Plan.load(tmp_path / "toy-1") == plan


def test_a_parameter_that_is_there_for_some_choices_only_may_be_given(plan, tmp_path):
    drive(resume(tmp_path, "--enqueue", "width=16,critic=b"), most=2)
    assert drive(resume(tmp_path), most=1)[0]["width"] == 16


def test_a_grid_and_a_study_of_controls_do_not_grow(tmp_path):
    places = {"storage": str(tmp_path), "folder": str(tmp_path / "toy-1")}
    Plan.from_fields(PLAN | places | {"grid": {"gap_weight": [0, 1]}, "controls": 2, "trials": 2}).save()
    with pytest.raises(UserError, match=r"^--trials 3: the grid has 2 points, a trial each; start another --grid"):
        resume(tmp_path, "--trials", "3")
    with pytest.raises(UserError, match=r"^--enqueue: a grid has points of its own; add the values to --grid"):
        resume(tmp_path, "--enqueue", "gap_weight=3")
    Plan.from_fields(PLAN | places | {"controls": 2, "trials": 2}).save()
    given = Study("toy", space={}, controls=CONTROLS, trials=2, steps=40)
    with pytest.raises(UserError, match=r"^--trials 3: every trial of this study is given by its file"):
        resume(tmp_path, "--trials", "3", study=given)
