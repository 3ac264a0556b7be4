"""What the fault tests share: a migrated database, and the figures of the undisturbed sweep that every other sweep is
compared with."""

import json
import os

import pytest
from filelock import FileLock
from harness import EVERY, FLAGS, STEPS, Sweep, figures


@pytest.fixture(scope="session", autouse=True)
def made_once(database):
    Sweep.database = database


@pytest.fixture(scope="session")
def undisturbed(footage, tmp_path_factory):
    """Its figures, made once however many processes run the tests (pytest-xdist)."""
    folder, run = tmp_path_factory.getbasetemp(), os.environ.get("PYTEST_XDIST_TESTRUNUID")
    kept = (folder.parent if run else folder) / f"undisturbed-{run}.json"
    with FileLock(kept.with_suffix(".lock")):
        if not kept.exists():
            sweep = Sweep(tmp_path_factory.mktemp("undisturbed"), footage[0], "--name", "whole", *FLAGS)
            sweep.end()
            made = figures(sweep.plan)
            assert set(made) == {0}
            points = [(*point, value) for point, value in made[0].items()]
            kept.write_text(json.dumps(points))
    found = {0: {(name, step): value for name, step, value in json.loads(kept.read_text())}}
    assert {step for _, step in found[0]} == set(range(EVERY, STEPS + 1, EVERY))
    return found
