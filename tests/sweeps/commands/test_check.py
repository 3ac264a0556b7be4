"""`python -m sweeps check`: what MLflow says otherwise than the record is listed, and mended with --repair."""

import itertools
import json
from pathlib import Path

import optuna
import pytest
from made_studies import refused, run_command

from svgan.io import storage
from sweeps import __main__ as commands
from sweeps.reports import trial_table
from sweeps.search.optuna_store import location, open_mirror, read_record
from sweeps.storage import driver_lease, driver_lock, study_files
from sweeps.tracking.client import Tracking

AGREED = "gap-1: MLflow, Optuna and the checkpoints agree with the study's record\n"


@pytest.fixture
def cut(study):
    """A study whose driver died after Optuna was told of a trial's end, and before MLflow's run was closed."""
    made = study("gap-1", "finished", "pruned", None)
    open_mirror(made.plan).reconcile(read_record(made.plan))
    (run, *_) = made.tracking.runs()
    made.tracking.client.update_run(run.info.run_id, status="RUNNING")
    return made


def test_what_disagrees_is_listed_and_nothing_is_changed(cut, capsys):
    with pytest.raises(SystemExit) as stopped:
        commands.main(["check", "gap-1", "--storage", "."])
    assert stopped.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        "study: its run in MLflow is RUNNING, though no driver lives",
        "  --repair: set it KILLED",
        "trial 0: it is finished, and its run in MLflow is RUNNING",
        "  --repair: close it as finished",
        "2 disagreements; mend with: python -m sweeps check gap-1 --repair",
    ]
    assert [run.info.status for run in cut.tracking.runs()] == ["RUNNING", "KILLED", "RUNNING"]


def test_repair_mends_it_and_then_nothing_disagrees(cut, capsys):
    assert [row.status for row in trial_table.rows_of(cut.tracking.runs(), False)] == ["cut", "stopped", "cut"]
    shown = run_command(capsys, "check", "gap-1", "--repair")
    assert shown.endswith(
        "  done: close it as finished\ngap-1: MLflow, Optuna and the checkpoints agree with the study's record\n"
    )
    assert [row.status for row in trial_table.rows_of(cut.tracking.runs(), False)] == ["finished", "stopped", "cut"]
    assert run_command(capsys, "check", "gap-1") == AGREED


def test_gc_takes_a_trial_whose_run_was_left_open_once_it_is_repaired(cut, capsys):
    folder = cut.train_folder(0)
    run_command(capsys, "gc", "gap-1", "--yes")
    assert folder.exists()
    run_command(capsys, "check", "gap-1", "--repair")
    run_command(capsys, "gc", "gap-1", "--yes")
    assert not folder.exists()


def test_beside_a_living_driver_only_ended_trials_are_compared_and_nothing_is_repaired(cut, capsys):
    with driver_lock.hold(cut.plan):
        assert "is running this study; stop it with" in refused(capsys, "check", "gap-1", "--repair")
        with pytest.raises(SystemExit) as stopped:
            commands.main(["check", "gap-1", "--storage", "."])
        assert stopped.value.code == 1
    shown = capsys.readouterr().out
    assert "runs it, so only trials that have ended are compared" in shown
    assert "trial 0: it is finished, and its run in MLflow is RUNNING" in shown
    assert "though no driver lives" not in shown
    assert "--repair\n" not in shown
    assert Tracking(cut.plan).runs()[0].info.status == "RUNNING"


def test_a_study_that_is_not_there_is_one_line(here, capsys):
    assert "no such study" in refused(capsys, "check", "nothing")


def test_a_driver_on_another_machine_is_respected(cut, capsys, monkeypatch):
    """Its lease is in the storage. Nothing is repaired while its counter moves."""
    place = study_files.place(cut.plan, driver_lease.LEASE)
    beats = itertools.count()

    def beat():
        lease = {"driver": "d", "pid": 7, "host": "elsewhere", "machine": "another", "beat": next(beats)}
        storage.write(place, json.dumps(lease).encode())

    beat()
    with pytest.raises(SystemExit) as stopped:
        commands.main(["check", "gap-1", "--storage", "."])
    assert stopped.value.code == 1
    shown = capsys.readouterr().out
    assert shown.startswith("process 7 on elsewhere runs it, so only trials that have ended are compared")
    assert "though no driver lives" not in shown
    monkeypatch.setattr(driver_lease.time, "sleep", lambda seconds: beat())
    assert "process 7 on elsewhere is running this study" in refused(capsys, "check", "gap-1", "--repair")
    assert Tracking(cut.plan).runs()[0].info.status == "RUNNING"


def test_what_optuna_and_the_checkpoints_have_otherwise_is_mended_too(cut, capsys):
    run_command(capsys, "check", "gap-1", "--repair")
    optuna.load_study(study_name="gap-1", storage=location(cut.plan)).tell(2, 5.0)
    stray, kept = cut.train_folder(7), cut.train_folder(2)
    with pytest.raises(SystemExit):
        commands.main(["check", "gap-1", "--storage", "."])
    shown = capsys.readouterr().out
    assert "study: in Optuna's storage, trial 2 is COMPLETE, not RUNNING, or has other figures" in shown
    assert f"trial 7: there are checkpoints of it, and the record has no such trial: {stray}" in shown
    assert stray.exists()
    run_command(capsys, "check", "gap-1", "--repair")
    assert (stray.exists(), kept.exists()) == (False, True)
    assert [trial.state.name for trial in open_mirror(cut.plan).study.get_trials()] == ["COMPLETE", "PRUNED", "RUNNING"]
    Path(location(cut.plan).removeprefix("sqlite:///")).unlink()
    with pytest.raises(SystemExit):
        commands.main(["check", "gap-1", "--storage", "."])
    assert "study: Optuna's storage is missing" in capsys.readouterr().out
    assert not Path(location(cut.plan).removeprefix("sqlite:///")).exists(), "looking creates nothing"
    run_command(capsys, "check", "gap-1", "--repair")
