"""A worker is told that it will be taken away, or is taken away unasked, between two reports."""

import json
import re
import signal
from pathlib import Path

import pytest
from harness import EVERY, FLAGS, WORKER, Sweep, assert_as_if_nothing_had_happened, messages

pytestmark = pytest.mark.slow


def kept_steps(sweep: Sweep) -> list[int]:
    """The steps of the trial's checkpoints, oldest first."""
    folders = sorted(Path(sweep.plan.output.folder, "train-0000").glob("checkpoint_2*"))
    return [json.loads((folder / "state" / "state.json").read_text())["step"] for folder in folders]


def begun_again_at(sweep: Sweep) -> list[int]:
    return [int(step) for step in re.findall(r"workers started again .*, from step (\d+)", messages(sweep.plan))]


def test_a_worker_that_gets_sigterm_keeps_its_state_and_the_trial_goes_on_from_there(undisturbed, footage, tmp_path):
    """More often than a trial may fail, since a notice is not charged. Held at a step, it heeds it before the next."""
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, holds_at=EVERY + 5)
    sweep.until_held()
    sweep.processes(WORKER)[0].send_signal(signal.SIGTERM)
    sweep.release()
    sweep.until(lambda: "workers started again (2 times now)" in messages(sweep.plan))
    assert max(kept_steps(sweep)) >= EVERY + 6
    sweep.end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    assert f"told to leave; its state is kept at step {EVERY + 6}" in messages(sweep.plan)
    assert begun_again_at(sweep) == [EVERY + 6]


def test_a_killed_worker_goes_on_from_a_checkpoint_between_two_reports(undisturbed, footage, tmp_path):
    """The steps before it is held take longer than the minutes asked for: TOY_PACE seconds each."""
    flags = (*FLAGS, "--checkpoint-minutes", "0.001")
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *flags, holds_at=EVERY - 5)
    sweep.until_held()
    snapshot = Path(sweep.plan.output.folder, "train-0000", "checkpoint_manager_snapshot.json")
    sweep.until(snapshot.exists)
    (kept,) = kept_steps(sweep)
    sweep.processes(WORKER)[0].kill()
    sweep.release()
    sweep.end()
    assert 0 < kept < EVERY - 5
    assert begun_again_at(sweep) == [kept]
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    assert len(kept_steps(sweep)) == 2, "the last two are kept"
