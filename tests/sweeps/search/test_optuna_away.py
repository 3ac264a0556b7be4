"""Optuna's storage goes away for a while, or for good: the study goes on by its record, and Optuna catches up."""

import pytest
from made_plan import PLAN
from played_tune import PlayedTune

from sweeps.record.patient_follower import LONGEST_PAUSE, PatientFollower
from sweeps.search.optuna_mirror import failures
from sweeps.search.optuna_store import open_mirror
from sweeps.storage.plan import Plan

METRIC = "latent_fd_best"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def away(tmp_path):
    """A study whose Optuna storage is a SQLite file on a real disk, with what was said and why it stopped."""
    (tmp_path / "toy-1").mkdir()
    places = {"storage": str(tmp_path), "folder": str(tmp_path / "toy-1")}
    plan = Plan.from_fields(PLAN | places | {"trials": 3, "controls": 0})
    played, clock, said, why = PlayedTune(plan, {"x": [1]}), Clock(), [], []
    follower = PatientFollower(
        played.core.followers[0],
        errors=failures(),
        name="Optuna's storage",
        patience=900.0,
        tell=said.append,
        stop=why.append,
        clock=clock,
    )
    played.core.followers = [follower]
    return played, plan, clock, said, why


def break_table(plan):
    """As a full disk or a restarted server does: statements fail from now on."""
    import sqlite3

    with sqlite3.connect(f"{plan.output.folder}/optuna.db") as file:
        file.execute("alter table trials rename to trials_away")


def mend_table(plan):
    import sqlite3

    with sqlite3.connect(f"{plan.output.folder}/optuna.db") as file:
        file.execute("alter table trials_away rename to trials")


def test_the_study_goes_on_without_it_and_it_catches_up(away):
    played, plan, clock, said, why = away
    played.suggest("a")
    break_table(plan)
    played.on_trial_result("a", {"step": 10, METRIC: 2.0})
    assert "Optuna's storage cannot be used, so the study goes on without it" in said[0]
    assert "Error: " in said[0]
    played.on_trial_complete("a", {"step": 40, METRIC: 1.0, "finished": True})
    played.suggest("b")
    assert [trial.ending for trial in played.core.state.trials] == ["finished", None]
    mend_table(plan)
    clock.now += LONGEST_PAUSE
    played.on_trial_result("b", {"step": 10, METRIC: 3.0})
    assert said[-1] == "Optuna's storage is back and has everything"
    assert not why
    states = [trial.state.name for trial in open_mirror(plan).study.get_trials()]
    assert states == ["COMPLETE", "RUNNING"]


def test_after_its_patience_the_study_is_stopped_with_the_reason(away):
    played, plan, clock, _, why = away
    played.suggest("a")
    break_table(plan)
    for step in range(10, 40, 10):
        played.on_trial_result("a", {"step": step, METRIC: 2.0})
        clock.now += 500.0
    assert len(why) == 1
    assert why[0].startswith("Optuna's storage cannot be used for 17 min (")
    assert "\n" not in why[0]
    mend_table(plan)


def test_without_it_one_error_of_the_database_ended_the_study(away):
    """What the follower is for: its inner one raises."""
    played, plan, *_ = away
    played.suggest("a")
    played.core.followers = [played.core.followers[0].inner]
    break_table(plan)
    with pytest.raises(failures()):
        played.on_trial_result("a", {"step": 10, METRIC: 2.0})
    mend_table(plan)
