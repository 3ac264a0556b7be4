"""A sweep that is asked to stop keeps everything; what lies about in its folder is not opened."""

import json
import pickle
import re
import time
from pathlib import Path

import pytest
from harness import EVERY, FLAGS, STEPS, Sweep, assert_as_if_nothing_had_happened, messages, trials
from optuna.trial import TrialState

from sweeps.storage import stop_request
from sweeps.tracking.client import Tracking

pytestmark = pytest.mark.slow


def heeding(folder: Path, domain: str, step: int, *more: str) -> tuple[Sweep, Path]:
    """A sweep whose worker waits at this step until a stop was asked for, and the file that is there once it does."""
    waits = folder / "waits"
    environment = {"TOY_HEEDS_AT": str(step), "TOY_MARK": str(waits)}
    return Sweep(folder, domain, "--name", "hurt", *FLAGS, *more, environment=environment), waits


def test_ctrl_c_once_stops_cleanly_and_the_command_it_prints_goes_on(undisturbed, footage, tmp_path):
    sweep, waits = heeding(tmp_path, footage[0], EVERY + 5)
    sweep.until(waits.exists)
    sweep.interrupt()
    shown = sweep.end(130)
    assert "running trials keep their state first" in shown
    assert re.search(r"stopped; go on with: python .*toy.py --resume hurt", shown)
    assert [trial.state for trial in trials(sweep.plan)] == [TrialState.WAITING]
    tracking = Tracking(sweep.plan)
    assert [run.data.tags["svgan.outcome"] for run in tracking.runs()] == ["halted"]
    assert tracking.client.get_run(tracking.parent_id()).info.status == "KILLED"
    Sweep(tmp_path, footage[0], "--resume", "hurt").end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)


def test_a_state_kept_between_two_reports_is_of_that_step(undisturbed, footage, tmp_path):
    """A stop by file, as `python -m sweeps stop` makes it, falls between two reports and costs no step. It is asked for
    once the worker has looked for a stop at step 45 and waits there for one: the next look, at step 46, heeds it."""
    sweep, waits = heeding(tmp_path, footage[0], 2 * EVERY + 5)
    sweep.until(waits.exists)
    stop_request.request(sweep.plan)
    sweep.end(130)
    last = max(Path(sweep.plan.output.folder, "train-0000").glob("checkpoint_2*"))
    assert json.loads((last / "state" / "state.json").read_text())["step"] == 2 * EVERY + 6
    Sweep(tmp_path, footage[0], "--resume", "hurt").end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)


def test_ctrl_c_twice_leaves_at_once_and_is_still_resumable(undisturbed, footage, tmp_path):
    """Its worker is held, and never lets a clean stop come to its end."""
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, holds_at=EVERY + 5)
    sweep.until_reports(1)
    sweep.until_held()
    sweep.interrupt()
    sweep.until_told("keep their state first")
    sweep.interrupt()
    sweep.end(130)
    Sweep(tmp_path, footage[0], "--resume", "hurt").end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)


def test_sigterm_to_all_processes_is_heeded_as_ctrl_c(undisturbed, footage, tmp_path):
    """Twice: at once. Once: with the state kept at the step where the worker waits for the stop."""
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, holds_at=EVERY + 5)
    sweep.until_reports(1)
    sweep.until_held()
    sweep.terminate()
    sweep.until_told("keep their state first")
    time.sleep(stop_request.NOTICE_SECONDS)
    sweep.terminate()
    outputs = [sweep.end(143)]
    waits = tmp_path / "waits"
    environment = {"TOY_HEEDS_AT": str(2 * EVERY + 5), "TOY_MARK": str(waits)}
    sweep = Sweep(tmp_path, footage[0], "--resume", "hurt", environment=environment)
    sweep.until(waits.exists)
    sweep.terminate()
    outputs.append(sweep.end(143))
    for shown in outputs:
        assert "running trials keep their state first (SIGTERM again to leave at once" in shown
        assert re.search(r"stopped; go on with: python .*toy.py --resume hurt", shown)
        assert "*** SIGTERM" not in shown
        assert "Traceback" not in shown
    assert [trial.state for trial in trials(sweep.plan)] == [TrialState.WAITING]
    last = max(Path(sweep.plan.output.folder, "train-0000").glob("checkpoint_2*"))
    assert json.loads((last / "state" / "state.json").read_text())["step"] == 2 * EVERY + 6
    Sweep(tmp_path, footage[0], "--resume", "hurt").end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)


class Hostile:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used_and_no_pickle_is_opened(
    undisturbed, footage, tmp_path
):
    sweep = Sweep(tmp_path, footage[0], "--name", "hurt", *FLAGS, "--concurrency", "1", holds_at=3 * EVERY + 5)
    sweep.until_reports(3)
    sweep.until_held()
    folder = Path(sweep.plan.output.folder, "train-0000")
    sweep.until(lambda: len(list(folder.glob("checkpoint_2*"))) == 2)  # the oldest of three goes after the report
    sweep.kill()
    newest = max(folder.glob("checkpoint_2*"))
    tensors = newest / "state" / "tensors.safetensors"
    content = bytearray(tensors.read_bytes())
    content[len(content) // 2] ^= 1
    tensors.write_bytes(content)
    mark = tmp_path / "opened"
    places = [Path(sweep.plan.output.folder), Path(sweep.plan.output.folder, "tune"), folder, newest]
    for place in places:
        for name in ("tuner.pkl", "searcher-state.pkl", "search_gen_state.pkl", "trainer.pkl", "trainable.pkl"):
            (place / name).write_bytes(pickle.dumps(Hostile(mark)))
    Sweep(tmp_path, footage[0], "--resume", "hurt").end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    assert f"{tensors.parent.name}/{tensors.name}: damaged" in messages(sweep.plan)
    assert "trying the checkpoint before it" in messages(sweep.plan)
    assert not mark.exists()


def test_a_used_up_budget_stops_cleanly_and_a_larger_one_goes_on(undisturbed, footage, tmp_path):
    # 3.6 s of a core, which seven reports take on any machine; no more steps are made until it is noticed.
    sweep, _ = heeding(tmp_path, footage[0], 7 * EVERY + 5, "--max-gpu-hours", "0.001")
    shown = sweep.end(3)
    assert "budget: 0.001 core-hours" in shown
    said = r"svgan: --max-gpu-hours 0.001: used up .*; go on with a larger one: python .* --resume hurt"
    assert re.search(said, shown)
    assert "Traceback" not in shown
    study = sweep.study_run()
    assert study.info.status == "KILLED"
    assert 0.001 <= study.data.metrics["core_hours"] < 0.2
    refused = Sweep(tmp_path, footage[0], "--resume", "hurt").end(2)
    assert "--max-gpu-hours 0.001: hurt has used" in refused
    again = Sweep(tmp_path, footage[0], "--resume", "hurt", "--max-gpu-hours", "10")
    again.end()
    assert_as_if_nothing_had_happened(again.plan, undisturbed)
    used = again.study_run().data.metrics["core_hours"]
    assert used > study.data.metrics["core_hours"]
    assert [run.data.metrics["core_hours"] for run in Tracking(again.plan).runs()] == [used]


def test_hours_that_are_used_up_end_the_driver_and_then_the_trial_and_somebody_is_told(footage, tmp_path):
    """Seven seconds of the driver, however far its trial comes; then fewer hours for the trial than it has had."""
    heard = tmp_path / "heard"
    limits = ("--max-hours", "0.002", "--on-end", f"cat >> {heard}")
    sweep, _ = heeding(tmp_path, footage[0], EVERY + 5, *limits)
    shown = sweep.end(3)
    assert "limits: this command at most 0.002 h" in shown
    again = r"svgan: --max-hours 0.002: used up .*; go on with as many hours more: python .* --resume hurt"
    assert re.search(again, shown)
    Sweep(tmp_path, footage[0], "--resume", "hurt", "--max-hours", "9", "--trial-hours", "0.00001").end()
    plan = sweep.plan
    assert (plan.compute.max_hours, plan.compute.trial_hours) == (9.0, 0.00001)
    (run,) = Tracking(plan).runs()
    assert 0 < run.data.metrics["steps_done"] < STEPS
    (trial,) = trials(plan)
    assert trial.state == TrialState.COMPLETE
    assert max(trial.intermediate_values) == run.data.metrics["steps_done"]
    spent, finished = map(json.loads, heard.read_text().splitlines())
    assert (spent["outcome"], spent["exit_code"]) == ("budget spent", 3)
    assert spent["reason"].startswith("--max-hours 0.002: used up")
    assert spent["resume"].endswith("--resume hurt")
    assert (finished["outcome"], finished["exit_code"], finished["trials"]) == ("finished", 0, {"finished": 1})
    assert finished["best"]["latent_fd"] == run.data.metrics["latent_fd_best"]
    assert "--trial-hours 1e-05: used up at step" in messages(plan)
