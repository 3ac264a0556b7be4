"""The limit on waiting, and a failed trial's word. What needs a running Ray is in test_ray.py."""

import dataclasses
from types import SimpleNamespace

import pytest
from made_plan import PLAN

from svgan.errors import UserError
from sweeps.driver import stall_limit
from sweeps.driver.life_watch import LifeWatch
from sweeps.storage import trial_failure
from sweeps.storage.plan import Plan


def plan(**change):
    return Plan.from_fields(PLAN | change)


def ended(text, path=None, last_result=None):
    """A Tune trial as callbacks see it: only what is read."""
    if path is not None:
        path.write_text(text)
    return SimpleNamespace(error_file=path and str(path), last_result=last_result)


def test_a_failed_trial_says_its_own_last_word(tmp_path):
    file = tmp_path / "error.txt"
    assert (
        trial_failure.failure(ended(None, last_result={"failed": "NonFiniteLoss: at step 3"}))
        == "NonFiniteLoss: at step 3"
    )
    assert trial_failure.failure(ended("one\n\nlast line", file)) == "last line"
    assert trial_failure.failure(ended(None)) == "no reason given"


@pytest.fixture
def patience(tmp_path):
    of = plan(storage=str(tmp_path))
    return stall_limit.StallLimit(of, LifeWatch(of), local=True, failures=2)


def test_patience_ends_a_sweep_whose_first_trials_all_fail(patience, tmp_path):
    for _ in range(2):
        patience.on_step_end(0, [])
        patience.on_trial_error(0, [], ended("disk full", tmp_path / "error.txt"))
    with pytest.raises(UserError, match="first 2 trials all failed; the first one said: disk full"):
        patience.on_step_end(0, [])


def test_patience_goes_on_once_a_trial_has_ended_well(patience):
    patience.on_trial_complete(0, [], ended(None))
    for _ in range(5):
        patience.on_trial_error(0, [], ended(None))
        patience.on_step_end(0, [])


def test_plans_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan().name = "other"
