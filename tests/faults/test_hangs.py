"""What never raises: a frozen worker, a loop that stands still, a loss that is NaN, a start that cannot succeed."""

import signal

import pytest
from harness import EVERY, FLAGS, SMALL, WORKER, Sweep, assert_as_if_nothing_had_happened, messages, trials
from optuna.trial import TrialState

from sweeps.tracking.client import Tracking

pytestmark = pytest.mark.slow


def test_a_frozen_worker_is_given_up_and_started_again(undisturbed, footage, tmp_path):
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, "--patience", "0.3", holds_at=EVERY + 5)
    sweep.until_held()
    sweep.processes(WORKER)[0].send_signal(signal.SIGSTOP)
    sweep.release()
    sweep.end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    assert "workers started again (2 times now)" in messages(sweep.plan)


def test_a_loop_that_stands_still_is_named_killed_and_started_again(undisturbed, footage, tmp_path):
    sweep = Sweep(
        tmp_path,
        footage[0],
        *("--name", "hurt", *FLAGS, "--patience", "0.3"),
        environment={"TOY_HANGS_AT": "90", "TOY_MARK": str(tmp_path / "hung")},
    )
    sweep.end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    shown = messages(sweep.plan)
    assert "rank 0 (process " in shown
    assert "made no step for" in shown
    assert "hang" in shown
    assert "workers started again (2 times now)" in shown


def test_a_loss_that_is_no_number_fails_its_trial_on_all_ranks_and_no_other(footage, tmp_path):
    flags = ("--steps", "100", "--clips", "0", "--workers", "2", "--concurrency", "1")
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *flags, "--grid", "lr=1e30,0.001", *SMALL)
    sweep.end()
    first, second = Tracking(sweep.plan).runs()
    assert first.data.tags["error"].startswith("NonFiniteLoss: ")
    assert "_loss is" in first.data.tags["error"] or "penalty is" in first.data.tags["error"]
    assert " at step " in first.data.tags["error"]
    assert first.data.tags["attempts"] == "1", "what fails alike every time is not tried again"
    assert (first.info.status, second.info.status) == ("FAILED", "FINISHED")
    assert [trial.state for trial in trials(sweep.plan)] == [TrialState.FAIL, TrialState.COMPLETE]


def test_workers_that_cannot_meet_fail_their_trial_with_the_cause_and_free_their_place(footage, tmp_path):
    flags = ("--steps", "50", "--clips", "0", "--workers", "2", "--concurrency", "1")
    sweep = Sweep(
        tmp_path,
        footage[0],
        *("--name", "hurt", *flags, "--grid", "gap_weight=0,100", *SMALL),
        environment={"GLOO_SOCKET_IFNAME": "nowhere0"},
    )
    shown = sweep.end(2)
    runs = Tracking(sweep.plan).runs()
    assert [run.info.status for run in runs] == ["FAILED", "FAILED"], "the second one could start: nothing leaked"
    assert all("nowhere0" in run.data.tags["error"] for run in runs)
    assert "no trial finished; the first failure said: " in shown
    assert [trial.state for trial in trials(sweep.plan)] == [TrialState.FAIL] * 2
