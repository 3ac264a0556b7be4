"""Refusals before anything starts. What needs a running Ray is in test_ray.py."""

import dataclasses
import os
from types import SimpleNamespace

import pytest
from test_plan import PLAN

from svgan.errors import UserError
from sweeps import guard
from sweeps.plan import Plan

HERE = {"CPU": 2.0, "GPU": 0.0, "GB": 16.0}


def plan(**change):
    return Plan(**PLAN | change)


def test_what_fits_is_let_through():
    guard.check_resources(plan(), HERE, guard.HERE)


@pytest.mark.parametrize(
    ("change", "there", "words"),
    [
        ({"workers": 8}, HERE, "--workers: a trial asks 8 x 1 = 8 CPU, this machine has 2"),
        ({"gpus_per_worker": 1}, HERE, "--gpus-per-worker: a trial asks 1 x 1 = 1 GPU, this machine has 0"),
        ({"concurrency": 3}, HERE, "--concurrency 3: .* at most 2 fit"),
        ({}, HERE | {"GB": 1.0}, "memory: 1.0 GB free"),
    ],
)
def test_what_could_never_be_placed_is_refused(change, there, words):
    with pytest.raises(UserError, match=words):
        guard.check_resources(plan(**change), there, guard.HERE)


def test_a_cluster_must_offer_trial_slots():
    with pytest.raises(UserError, match="offers 1 trial_slot"):
        guard.check_resources(plan(), {"CPU": 64, "trial_slot": 1}, "the cluster")
    guard.check_resources(plan(), {"CPU": 64, "trial_slot": 2}, "the cluster")


@pytest.mark.parametrize(
    ("there", "asked", "fits"),
    [
        ({"CPU": 2, "GPU": 0, "GB": 20}, {"workers": 1, "gpus": 0, "trials": 6}, 2),
        ({"CPU": 2, "GPU": 0, "GB": 5}, {"workers": 1, "gpus": 0, "trials": 6}, 1),
        ({"CPU": 2, "GPU": 0, "GB": 20}, {"workers": 2, "gpus": 0, "trials": 6}, 1),
        ({"CPU": 16, "GPU": 2, "GB": 90}, {"workers": 1, "gpus": 1, "trials": 6}, 2),
        ({"CPU": 16, "GPU": 2, "GB": 90}, {"workers": 1, "gpus": 0, "trials": 3}, 3),
        ({"CPU": 1, "GPU": 0, "GB": 2}, {"workers": 4, "gpus": 0, "trials": 3}, 1),
    ],
)
def test_concurrency_follows_cpus_gpus_and_memory(there, asked, fits):
    assert guard.fitting_concurrency(there, cpus=1, **asked) == fits


def test_gpus_are_shared_when_workers_outnumber_them():
    assert guard.gpu_share({"GPU": 0}, 2, None) == 0
    assert guard.gpu_share({"GPU": 1}, 1, None) == 1
    assert guard.gpu_share({"GPU": 1}, 1, 3) == 0.33
    assert guard.gpu_share({"GPU": 4}, 2, 2) == 1


def test_storage_that_cannot_be_written_is_refused(tmp_path):
    guard.check_storage(str(tmp_path / "new"))
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--storage .*file/runs: cannot be written"):
        guard.check_storage(str(tmp_path / "file" / "runs"))


def test_the_local_cluster_is_told_from_a_dead_one(monkeypatch):
    monkeypatch.setattr("ray._private.utils.read_ray_address", lambda: "127.0.0.1:1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert guard.cluster_address() is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert guard.cluster_address() == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert guard.cluster_address() is None


def test_this_machine_has_what_the_process_may_use():
    there = guard.machine()
    assert 1 <= there["CPU"] <= (os.cpu_count() or 1)
    assert there["GB"] > 0


def ended(text, path=None, last_result=None):
    """A Tune trial as callbacks see it: only what is read."""
    if path is not None:
        path.write_text(text)
    return SimpleNamespace(error_file=path and str(path), last_result=last_result)


def test_a_failed_trial_says_its_own_last_word(tmp_path):
    file = tmp_path / "error.txt"
    assert guard.failure(ended(None, last_result={"failed": "NonFiniteLoss: at step 3"})) == "NonFiniteLoss: at step 3"
    assert guard.failure(ended("one\n\nlast line", file)) == "last line"
    assert guard.failure(ended(None)) == "no reason given"


def test_patience_ends_a_sweep_whose_first_trials_all_fail(tmp_path):
    patience = guard.Patience(failures=2)
    for _ in range(2):
        patience.on_step_end(0, [])
        patience.on_trial_error(0, [], ended("disk full", tmp_path / "error.txt"))
    with pytest.raises(UserError, match="first 2 trials all failed; the first one said: disk full"):
        patience.on_step_end(0, [])


def test_patience_goes_on_once_a_trial_has_ended_well():
    patience = guard.Patience(failures=2)
    patience.on_trial_complete(0, [], ended(None))
    for _ in range(5):
        patience.on_trial_error(0, [], ended(None))
        patience.on_step_end(0, [])


def test_plans_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan().name = "other"
