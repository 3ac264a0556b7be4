"""The lease of a study's driver, as drivers on other hosts see it, and a plan that outlives its head."""

import json
import threading
import uuid
from pathlib import Path

import fsspec
import pytest
from made_plan import PLAN

from svgan.errors import UserError
from svgan.io import storage
from sweeps.driver.new_plan import decided_output
from sweeps.record.entries import Driven
from sweeps.record.log import Log
from sweeps.storage import driver_lease, study_files
from sweeps.storage.plan import PLAN_FILE, Plan
from sweeps.storage.plan_parts import Output


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A study in a remote storage, whose driver's folder is below the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(driver_lease, "BEAT_SECONDS", 0.05)
    where = f"memory://{uuid.uuid4().hex}/runs"
    return Plan.from_fields(PLAN | {"storage": where, "folder": str(tmp_path / "runs" / "toy-1")})


def elsewhere(monkeypatch):
    """From now on, this process is on another machine."""
    monkeypatch.setattr(driver_lease, "machine", lambda: "another-host 1234")


def test_a_living_driver_elsewhere_is_respected(plan, monkeypatch, capsys):
    with driver_lease.hold(plan):
        driver_lease.check(plan)  # on this machine, the process's own lock tells
        elsewhere(monkeypatch)
        with pytest.raises(UserError, match=r"process \d+ on .* is running this study; .*--take-over"):
            driver_lease.check(plan)
    assert "to see whether it still does" in capsys.readouterr().out


def test_a_dead_drivers_lease_is_free_after_a_while(plan, monkeypatch):
    lease = driver_lease.Lease(plan, "dead")
    lease.beat()
    elsewhere(monkeypatch)
    driver_lease.check(plan)


def test_a_driver_learns_that_it_was_replaced(plan):
    with driver_lease.hold(plan) as first, driver_lease.hold(plan) as second:
        until = threading.Event()
        while not first.lost:
            until.wait(0.01)
        assert not second.lost
    assert not storage.exists(study_files.place(plan, driver_lease.LEASE)), "the last holder removes it"


def test_the_first_holder_leaves_the_seconds_lease_alone(plan):
    with driver_lease.hold(plan) as second:
        with driver_lease.hold(plan):
            pass
        second.beats = 0
        second.beat()
        first = driver_lease.Lease(plan, "first")
        first.release()
        assert json.loads(storage.read(study_files.place(plan, driver_lease.LEASE)))["driver"] == second.driver


def test_a_plan_is_found_on_a_machine_that_never_had_its_folder(plan, tmp_path):
    plan.save()
    (tmp_path / "runs" / "toy-1" / PLAN_FILE).unlink()
    (tmp_path / "runs" / "toy-1").rmdir()
    found = Plan.find(plan.output.storage, "toy-1")
    assert found == plan
    assert Path(found.output.folder) == tmp_path / "runs" / "toy-1"
    with pytest.raises(UserError, match=r"toy-2/study.json: no such study"):
        Plan.find(plan.output.storage, "toy-2")
    output = Output(storage=plan.output.storage, folder="", model="m", tracking=plan.output.tracking)
    with pytest.raises(UserError, match=r"--name toy-1: this study exists in memory://.*; use --resume toy-1"):
        decided_output(output, "toy-1")


def test_the_log_is_all_that_a_new_head_needs(plan):
    log = Log(study_files.place(plan, "record"), storage, "first")
    log.append(Driven(driver="first", where="process 1 on head-1"))
    assert Log(study_files.place(plan, "record"), storage, "second").read() == [
        Driven(driver="first", where="process 1 on head-1")
    ]
    assert fsspec.filesystem("memory").exists(study_files.place(plan, "record").removeprefix("memory:/"))
