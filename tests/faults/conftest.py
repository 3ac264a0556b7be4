"""What this room's sweeps share: a database, a process that their drivers are forked from, and the undisturbed sweep
that all others are held against."""

import pytest
from harness import EVERY, FLAGS, STEPS, Sweep, figures

from sweeps.forkserver import forkserver


@pytest.fixture(scope="session", autouse=True)
def made_once(database):
    Sweep.database = database
    with forkserver():
        yield


@pytest.fixture(scope="session")
def undisturbed(footage, tmp_path_factory):
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"), footage[0], "--name", "whole", *FLAGS)
    sweep.end()
    found = figures(sweep.plan)
    assert set(found) == {0}
    assert {step for _, step in found[0]} == set(range(EVERY, STEPS + 1, EVERY))
    return found
