"""--on-end: what the user's command is told of each ending, and that it changes nothing."""

import json
import math
import sys
import time

import psutil
import pytest

from svgan.errors import UserError
from svgan.termination import Terminated
from sweeps.driver import on_end
from sweeps.driver.budget import BudgetCallback
from sweeps.promotion.registry import Promotion
from sweeps.storage.usage import BudgetSpent

PROMOTION = Promotion("m", "3", 1, 40, 49.0, "models:/m@champion is version 3")


def end(made, tmp_path, error=None, promotion=None, begun=True, command=None):
    """End a study as the driver does; returns what the command was told, None if it did not run."""
    told = tmp_path / "told.json"
    plan = made.plan.with_fields(on_end=command or f"cat > {told}")
    raised = None
    try:
        with on_end.afterwards(plan) as ending:
            if begun:
                ending.budget = BudgetCallback(plan, {0: 1800.0})
            ending.promotion = promotion
            if error is not None:
                raise error
    except BaseException as caught:
        raised = caught
    assert raised is error
    return json.loads(told.read_text()) if told.exists() else None


def test_a_finished_study(study, tmp_path):
    made = study("toy-1", "finished", "finished", "pruned")
    told = end(made, tmp_path, promotion=PROMOTION)
    assert told["best"].pop("config")["gap_weight"] == "10"
    assert told.pop("hours") >= 0
    assert told.pop("links")["run"] == f"run {made.tracking.parent_id()} in MLflow"
    assert told == {
        "format": 1,
        "study": "toy",
        "name": "toy-1",
        "outcome": "finished",
        "exit_code": 0,
        "reason": "",
        "resume": None,
        "used": {"core_hours": 0.5},
        "asked": 4,
        "trials": {"finished": 2, "stopped": 1},
        "best": {"trial": 1, "status": "finished", "step": 40, "latent_fd": 1.9, "fvd_short": 21.0, "fvd_long": 49.0},
        "promotion": {
            "model": "m",
            "version": "3",
            "trial": 1,
            "step": 40,
            "fvd_long": 49.0,
            "message": PROMOTION.message,
        },
    }


@pytest.mark.parametrize(
    ("outcomes", "error", "outcome", "code", "reason"),
    [
        (["finished", None], KeyboardInterrupt(), "halted", 130, "interrupted"),
        (["failed", None], Terminated(), "halted", 143, "terminated"),
        (["finished", None], UserError("--storage: full;\n mend it"), "halted", 2, "--storage: full; mend it"),
        (["failed", "failed"], UserError("no trial finished"), "failed", 2, "no trial finished"),
        (["finished"], ValueError("a bug"), "failed", 1, "ValueError: a bug"),
        ([], BudgetSpent("--max-hours 1: used up"), "budget spent", 3, "--max-hours 1: used up"),
    ],
)
def test_every_other_ending_has_its_reason_and_the_way_on(study, tmp_path, outcomes, error, outcome, code, reason):
    made = study("toy-1", *outcomes)
    told = end(made, tmp_path, error)
    assert (told["outcome"], told["exit_code"], told["reason"]) == (outcome, code, reason)
    assert told["resume"].startswith("python sweeps/toy.py --resume toy-1")
    assert told["promotion"] is None


def test_of_a_study_that_was_refused_nobody_is_told(study, tmp_path):
    assert end(study("toy-1"), tmp_path, UserError("running already"), begun=False) is None


def test_while_mlflow_is_away_the_figures_are_the_records(study, tmp_path):
    made = study("toy-1", "finished")
    made.plan = made.plan.with_fields(tracking="http://127.0.0.1:9")
    told = end(made, tmp_path, UserError("MLflow is away"))
    assert told["trials"] == {"finished": 1}
    assert told["links"]["run"] is None


def test_figures_that_are_no_numbers_are_null():
    assert on_end.finite(math.nan) is on_end.finite(None) is None
    assert on_end.finite(1.5) == 1.5


@pytest.mark.parametrize("command", ["cat > /dev/null; exit 7", "exec < /dev/null; exit 7"])
def test_a_command_that_fails_is_one_warning(study, tmp_path, capsys, command):
    end(study("toy-1", "finished"), tmp_path, command=command)
    assert capsys.readouterr().err == f"warning: --on-end {command}: it ended with exit code 7\n"


def test_a_command_that_hangs_is_killed_with_all_that_it_started(tmp_path):
    """It writes the ids of its processes, which are gone afterwards."""
    ids = tmp_path / "ids"
    why = on_end.run(f"sleep 3600 & echo $$ $! > {ids}; wait", {}, limit=2.0)
    assert why == "killed, for it had not ended after 2 s; let it put what takes longer in the background"
    until = time.monotonic() + 60
    while any(map(living, map(int, ids.read_text().split()))):
        assert time.monotonic() < until
        time.sleep(0.05)


def living(number):
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_a_command_leaves_in_the_background_is_not_waited_for(tmp_path):
    mark = tmp_path / "mark"
    code = f"import time, pathlib; time.sleep(1); pathlib.Path({str(mark)!r}).touch()"
    assert on_end.run(f'{sys.executable} -c "{code}" &', {}) == ""
    assert not mark.exists()


def test_a_command_that_cannot_be_told_is_one_warning(study, tmp_path, capsys, monkeypatch):
    def broken(plan):
        raise RuntimeError("anything")

    monkeypatch.setattr(on_end, "known_of", broken)
    assert end(study("toy-1", "finished"), tmp_path) is None
    assert "warning: --on-end cat" in (shown := capsys.readouterr().err)
    assert shown.endswith("RuntimeError: anything\n")
