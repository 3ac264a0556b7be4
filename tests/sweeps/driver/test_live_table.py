"""What the live table prints of messages that nodes leave in the study's storage."""

import io
import time

import pytest
from made_plan import PLAN
from rich.console import Console

from sweeps.driver.live_table import LiveTable
from sweeps.storage import events
from sweeps.storage.plan import Plan


def test_an_event_of_a_node_whose_clock_is_behind_is_shown_and_each_once(tmp_path):
    plan, shown = Plan.from_fields(PLAN | {"storage": str(tmp_path)}), io.StringIO()
    table, clock = LiveTable(plan, [], Console(file=shown, width=200)), time.time

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
