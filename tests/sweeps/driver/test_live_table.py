"""What the live table shows of messages and signs of life that nodes leave in the study's storage."""

import io
import time

import pytest
from made_plan import PLAN
from rich.console import Console

from sweeps.driver.life_watch import LifeWatch
from sweeps.driver.live_table import LiveTable
from sweeps.reports.trial_table import Row
from sweeps.storage import events, life
from sweeps.storage.life import Sign
from sweeps.storage.plan import Plan


def test_an_event_of_a_node_whose_clock_is_behind_is_shown_and_each_once(tmp_path):
    plan, shown = Plan.from_fields(PLAN | {"storage": str(tmp_path)}), io.StringIO()
    table, clock = LiveTable(plan, [], LifeWatch(plan), Console(file=shown, width=200)), time.time

    def tell(trial: int, text: str, behind: float = 0.0) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(events.time, "time", lambda: clock() - behind)
            events.tell(plan, trial, text)

    tell(0, "on a node whose clock is right")
    table.listen()
    tell(1, "on a node whose clock is an hour behind", behind=3600)
    table.listen()
    tell(2, "on a node whose clock is right again")
    table.listen()
    table.listen()
    lines = [line.partition(" ")[2] for line in shown.getvalue().splitlines()]
    assert lines == [
        "trial 0: on a node whose clock is right",
        "trial 1: on a node whose clock is an hour behind",
        "trial 2: on a node whose clock is right again",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_trial_does_between_its_reports_is_shown(tmp_path, terminal):
    """In a terminal at every look; in a log once the trial has said nothing for --patience."""
    patience = 15.0 if terminal else 1e-9
    plan, shown = Plan.from_fields(PLAN | {"storage": str(tmp_path), "patience": patience}), io.StringIO()
    signs, rows = LifeWatch(plan), [Row(0, {}, 1700, status="running"), Row(1, {}, 1700, 1700, status="scoring")]
    signs.running |= {0, 1}
    life.leave(plan, 0, Sign("a", 1, "step", 120, 1700))
    life.leave(plan, 1, Sign("b", 1, "FVD short, generated clips", 12, 64))
    signs.look()
    console = Console(file=shown, width=200, force_terminal=terminal)
    with LiveTable(plan, rows, signs, console) as table:
        table.show_signs()
        table.show_signs()
    if terminal:
        assert "120/1700" in shown.getvalue()
        assert "scoring 12/64" in shown.getvalue()
    else:
        lines = [line.partition(" ")[2] for line in shown.getvalue().splitlines()]
        assert lines == [
            "trial 0  step 120/1700  running",
            "trial 1  step 1700/1700  scoring: FVD short, generated clips 12 of 64",
        ]


def test_signs_of_trials_that_have_ended_are_forgotten(tmp_path):
    plan = Plan.from_fields(PLAN | {"storage": str(tmp_path)})
    signs = LifeWatch(plan)
    signs.running |= {0, 1}
    for number in (0, 1):
        life.leave(plan, number, Sign("a", 1, "step", 120, 1700))
    signs.look()
    signs.running.discard(0)
    signs.look()
    assert set(signs.signs) == {1}
    assert life.read(plan, 0) is None
    assert life.read(plan, 1) is not None
