"""Processes die by SIGKILL, one or all, and a sweep ends with the figures of one that nothing happened to."""

import random
import time

import pytest
from harness import (
    DRIVER,
    EVERY,
    FLAGS,
    STEPS,
    WORKER,
    Sweep,
    assert_as_if_nothing_had_happened,
    figures,
    messages,
    trials,
)
from optuna.trial import TrialState

from sweeps.tracking.client import Tracking
from sweeps.trial.controller import DRIVER_RETRIES

pytestmark = pytest.mark.slow

# Systems of frames, small.
OTHERS = {
    "mocogan-hd": ("memory=6", "components=6", "mapping_samples=500", "critic_size=8", "batch=2", "window=4"),
    "stylegan-v": ("width=8", "channel_base=128", "channel_max=8", "joined=8", "kernel=3", "distance=8", "window=9"),
}


@pytest.mark.parametrize("title", [WORKER, DRIVER])
def test_a_killed_process_of_a_trial_changes_no_figure(undisturbed, footage, tmp_path, title):
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, holds_at=EVERY + 5)
    sweep.until_reports(1)
    sweep.until_held()
    max(sweep.processes(title), key=lambda process: process.create_time()).kill()
    sweep.release()
    assert "raylet" not in sweep.end(), "Ray's noise goes to the log"
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    assert [run.data.tags["attempts"] for run in Tracking(sweep.plan).runs()] == ["2"]
    assert "workers started again (2 times now)" in messages(sweep.plan)


@pytest.mark.parametrize("recipe", OTHERS)
def test_a_killed_worker_of_another_system_changes_no_figure(footage, tmp_path, recipe):
    flags, own = ("--steps", "24", "--clips", "0", "--grid", *OTHERS[recipe]), {"TOY_RECIPE": recipe}
    whole = Sweep(tmp_path, footage[0], "--name", "whole", *flags, environment=own)
    whole.end()
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *flags, environment=own, holds_at=4)
    sweep.until_reports(1)
    sweep.until_held()
    max(sweep.processes(WORKER), key=lambda process: process.create_time()).kill()
    sweep.release()
    sweep.end()
    expected = figures(whole.plan)
    assert {step for name, step in expected[0] if name == "latent_fd"} == set(range(3, 25, 3))
    assert figures(sweep.plan) == expected
    assert [run.data.tags["attempts"] for run in Tracking(sweep.plan).runs()] == ["2"]


def test_a_trial_whose_process_dies_again_and_again_is_halted_and_goes_on_at_resume(undisturbed, footage, tmp_path):
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, holds_at=EVERY + 5)
    sweep.until_reports(1)
    killed: set[int] = set()
    while len(killed) <= DRIVER_RETRIES:
        sweep.until(lambda: any(process.pid not in killed for process in sweep.processes(DRIVER)))
        for process in sweep.processes(DRIVER):
            killed.add(process.pid)
            process.kill()
    shown = sweep.end(code=2)
    assert f"trial 0: its process died {DRIVER_RETRIES + 1} times" in shown
    assert "--resume hurt" in shown
    assert "Traceback" not in shown
    Sweep(tmp_path, footage[0], "--resume", "hurt").end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)


def test_a_sweep_that_is_cut_again_and_again_is_resumed_as_if_nothing_had_happened(undisturbed, footage, tmp_path):
    """At any moment; held before the end, no machine is so fast that there is nothing left to cut."""
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, holds_at=STEPS - 5)
    moments = random.Random(0)
    sweep.until_reports(1)
    time.sleep(moments.uniform(0, 2))
    sweep.kill()
    for _ in range(2):
        sweep = Sweep(tmp_path, footage[0], "--resume", "hurt", holds_at=STEPS - 5)
        sweep.until_told("running")
        time.sleep(moments.uniform(0, 4))
        assert sweep.process.poll() is None
        sweep.kill()
    Sweep(tmp_path, footage[0], "--resume", "hurt").end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)


def test_a_driver_that_dies_before_it_closes_a_run_is_resumed_with_the_run_closed(undisturbed, footage, tmp_path):
    """The record has the trial as finished, so no trial is left that would open or close its run again."""
    held = tmp_path / "close"
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, environment={"TOY_HOLDS_CLOSE": str(held)})
    sweep.until(held.with_suffix(".held").exists)
    sweep.kill()
    assert [trial.state for trial in trials(sweep.plan)] == [TrialState.COMPLETE]
    assert [run.info.status for run in Tracking(sweep.plan).runs()] == ["RUNNING"]
    Sweep(tmp_path, footage[0], "--resume", "hurt").end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    told = "trial 0: it is finished, and its run in MLflow is RUNNING; done: close it as finished"
    assert told in messages(sweep.plan)
