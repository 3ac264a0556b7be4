"""--trial-hours: a real training whose steps take an hour each, by the clock of its meter."""

from types import SimpleNamespace

import pytest
import torch
from made_plan import PLAN

from svgan.torch_utils.distributed import SINGLE
from svgan.training.recipes import make
from svgan.training.registry import iterate
from sweeps.storage import usage
from sweeps.storage.plan import Plan
from sweeps.trial import trial_hours
from sweeps.trial.training import TrialTraining

SMALL = {"width": 8, "batch": 8, "n_critic": 1, "components": 16, "trunk": (16,), "critic_widths": (16, 8)}


class Reports:
    def __init__(self, meter) -> None:
        self.meter, self.steps = meter, []

    def report(self, step, metrics, state):
        self.steps.append(step)
        self.meter.seconds_so_far()


@pytest.fixture
def attempt(footage, tmp_path, monkeypatch):
    """Begins, or begins again, a trial of at most 16 steps that reports every 4; the hours go on from attempt to
    attempt."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(usage, "time", SimpleNamespace(monotonic=lambda: clock.now, time_ns=lambda: int(clock.now)))

    def hourly(state, source, process):
        clock.now += 3600
        return iterate(state, source, process)

    def begin(limit, state=None, rank=0):
        where = {"storage": str(tmp_path), "folder": str(tmp_path / "toy-1"), "domain": footage[0]}
        plan = Plan.from_fields(PLAN | where | {"latents": footage[1], "reports": 4, "trial_hours": limit})
        training = TrialTraining.from_config(plan, make("tiny", steps=16, **SMALL).to_json(), torch.device("cpu"))
        told, meter = [], usage.Meter(plan, 0)
        one = SimpleNamespace(plan=plan, rank=rank, meter=meter, iteration=hourly, tell=told.append)
        reports = Reports(meter)
        return trial_hours.train(one, training, reports, state, SINGLE), reports.steps, told

    return begin


def test_a_trial_without_a_limit_or_far_from_it_trains_to_the_end(attempt):
    for limit in (None, 1000.0):
        state, steps, told = attempt(limit)
        assert (state.step, steps, told) == (16, [4, 8, 12, 16], [])


def test_at_the_limit_a_trial_makes_one_more_step_and_is_judged_there(attempt):
    state, steps, told = attempt(5.5)
    assert (state.step, steps) == (7, [4, 7])
    assert [figures["step"] for figures in state.history] == [4, 7]
    assert told == ["--trial-hours 5.5: used up at step 6 of 16; it is judged as it stands"]
    again, steps, _ = attempt(5.5, state)
    assert (again.step, steps) == (7, []), "what was cut while it was scored makes no other step"


def test_at_a_report_no_other_step_is_made(attempt):
    state, steps, _ = attempt(7.5)
    assert (state.step, steps) == (8, [4, 8])


def test_the_hours_of_all_attempts_count_and_more_may_be_given(attempt):
    state, _, _ = attempt(5.5)
    state, steps, told = attempt(9.5, state)
    assert (state.step, steps) == (11, [8, 11])
    assert told == ["--trial-hours 9.5: used up at step 10 of 16; it is judged as it stands"]


def test_rank_0_alone_reads_the_meter(attempt):
    state, steps, _ = attempt(5.5, rank=1)
    assert (state.step, steps) == (16, [4, 8, 12, 16])
