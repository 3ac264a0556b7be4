"""Hours that trials use, and the budget they count towards."""

from types import SimpleNamespace

import pytest
from made_plan import PLAN

from svgan.errors import UserError
from sweeps.driver import budget
from sweeps.storage import stop_request, usage
from sweeps.storage.plan import Plan


@pytest.fixture
def plan(tmp_path):
    return Plan.from_fields(PLAN | {"storage": str(tmp_path), "folder": str(tmp_path / "toy-1")})


def gpus(plan, **change):
    return Plan.from_fields(
        PLAN | {"storage": plan.output.storage, "folder": plan.output.folder, "gpus_per_worker": 1} | change
    )


def test_hours_are_of_all_workers_and_their_share_of_a_gpu(plan):
    assert usage.figures(plan, 1800) == {"core_hours": 0.5}
    assert usage.counted(plan, 1800) == 0.5
    several = gpus(plan, workers=4, gpus_per_worker=0.5, cpus_per_worker=2)
    assert usage.figures(several, 1800) == {"core_hours": 4.0, "gpu_hours": 1.0}
    assert usage.counted(several, 1800) == 1.0
    assert usage.describe(several, 1.0) == "1 GPU-hours"
    assert usage.describe(plan, 1.0) == "1 core-hours"


def test_every_start_of_a_trial_counts_and_a_new_driver_knows(plan, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(usage.time, "monotonic", lambda: clock.now)
    first = usage.Meter(plan, 3)
    clock.now = 130.0
    assert first.seconds_so_far() == {"worker_seconds": 30.0}
    clock.now = 150.0
    assert first.seconds_so_far() == {"worker_seconds": 50.0}
    clock.now = 1000.0
    again = usage.Meter(plan, 3)
    clock.now = 1007.0
    assert again.seconds_so_far() == {"worker_seconds": 57.0}
    usage.Meter(plan, 4).seconds_so_far()
    assert usage.recall(plan) == {3: 57.0, 4: 0.0}


def test_a_storage_that_is_away_costs_no_trial(plan):
    gone = Plan.from_fields(PLAN | {"storage": "/proc/nowhere", "folder": plan.output.folder})
    assert usage.Meter(gone, 0).seconds_so_far()["worker_seconds"] >= 0


def trial(number, **result):
    return SimpleNamespace(config={"number": number}, last_result=result)


def test_the_budget_asks_for_one_clean_stop(plan, capsys, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(budget.time, "monotonic", lambda: clock.now)
    plan = gpus(plan, workers=2, max_gpu_hours=1.0)  # 1800 s of a trial
    account = budget.BudgetCallback(plan, {7: 600.0})
    one, two = trial(0), trial(1)
    account.on_trial_result(1, [one], one, {"worker_seconds": 500.0})
    account.on_trial_result(1, [two], two, {"worker_seconds": 400.0})
    account.on_step_end(1, [one, two])
    assert not account.spent
    assert not stop_request.requested(plan)
    clock.now = 149.0  # of both since their last reports
    account.on_step_end(2, [one, two])
    assert not account.spent
    clock.now = 151.0
    account.on_step_end(3, [one, two])
    account.on_step_end(4, [one, two])
    assert account.spent
    assert stop_request.requested(plan)
    assert capsys.readouterr().out.count("--max-gpu-hours 1: used up (1 GPU-hours)") == 1


def test_a_trial_that_waits_for_a_node_uses_nothing(plan, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(budget.time, "monotonic", lambda: clock.now)
    account = budget.BudgetCallback(gpus(plan), {})
    one = trial(0, worker_seconds=20.0)
    account.on_trial_result(1, [one], one, {"worker_seconds": 10.0})
    clock.now = 100_000.0
    assert account.total() == usage.counted(account.plan, 20.0)  # no longer than between two reports so far
    account.on_trial_complete(2, [one], one)
    assert account.total() == usage.counted(account.plan, 20.0)
    assert account.figures(0) == account.figures() == usage.figures(account.plan, 20.0)
    assert account.figures(1) == {}


def test_hours_of_the_driver_ask_for_one_clean_stop_and_begin_anew_with_each(plan, capsys, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(budget.time, "monotonic", lambda: clock.now)
    plan = plan.with_fields(max_hours=0.5)
    account = budget.BudgetCallback(plan, {0: 1e6}, began=900.0)
    clock.now = 2699.0
    account.on_step_end(1, [])
    assert not account.spent
    clock.now = 2700.0
    account.on_step_end(2, [])
    account.on_step_end(3, [])
    assert stop_request.requested(plan)
    assert capsys.readouterr().out.count("--max-hours 0.5: used up (0.5 hours of this command)") == 1
    error = account.error()
    assert isinstance(error, usage.BudgetSpent)
    assert str(error).endswith(
        "go on with as many hours more: python sweeps/toy.py --resume toy-1 --storage " + plan.output.storage
    )
    assert not budget.BudgetCallback(plan, {0: 1e6}).reached()


def test_a_meters_clock_is_read_without_writing(plan, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(usage.time, "monotonic", lambda: clock.now)
    first = usage.Meter(plan, 3)
    clock.now = 130.0
    first.seconds_so_far()
    again = usage.Meter(plan, 3)
    clock.now = 137.0
    assert again.seconds() == 37.0
    assert usage.recall(plan) == {3: 30.0}


def test_a_used_up_budget_is_refused_before_anything_starts(plan):
    plan = gpus(plan, max_gpu_hours=2.0)
    usage.check_budget(plan, {0: 7199.0})
    with pytest.raises(UserError, match="--max-gpu-hours 2: toy-1 has used 2 GPU-hours"):
        usage.check_budget(plan, {0: 3600.0, 1: 3600.0})
