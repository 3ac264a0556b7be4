"""Every sampler is a function of the record: a driver that begins anew proposes what an unbroken one proposes."""

import dataclasses

import pytest
from made_plan import PLAN
from played_tune import PlayedTune
from ray.tune.search import Searcher

from svgan.errors import UserError
from sweeps.record.entries import Ended, Halted, Queued, from_json, to_json
from sweeps.record.state import StudyState
from sweeps.search.optuna_store import open_log
from sweeps.search.proposer import StudyRules, check_sampler
from sweeps.storage.plan import Plan
from sweeps.storage.plan_parts import SAMPLERS

METRIC = "latent_fd_best"
TWO = ("latent_fd", "fvd_long")
CASES = [(name, ()) for name in SAMPLERS] + [(name, TWO) for name in ("tpe", "nsgaii", "random")]
CASES.append(pytest.param("gp", TWO, marks=pytest.mark.slow))


def space(trial):
    return {
        "x": trial.suggest_float("x", 0, 1),
        "width": trial.suggest_int("width", 8, 64),
        "kind": trial.suggest_categorical("kind", ["a", "b"]),
    }


def plan_of(sampler="tpe", objectives=(), **change):
    fields = {"trials": 24, "controls": 0, "seed": 5, "sampler": sampler, "objectives": objectives}
    return Plan.from_fields(PLAN | fields | change)


def ended(plan, proposal):
    """How a trial ends: a figure of its parameters, for each objective."""
    x, width = proposal.params["x"], proposal.params["width"] / 64
    values = (abs(x - 0.3) + width, abs(x - 0.7) + width**2)
    figures = dict(zip(plan.search.objective_keys, values, strict=False))
    return Ended(number=proposal.number, ending="finished", figures=figures)


@pytest.mark.parametrize(("sampler", "objectives"), CASES)
def test_a_driver_that_begins_at_any_trial_proposes_what_an_unbroken_one_does(sampler, objectives):
    """Three trials at a time, which end in another order than they began. The record is read from its JSON."""
    slow = sampler == "gp"  # it fits a model for each proposal
    plan = plan_of(sampler, objectives, trials=7 if slow else 30)
    unbroken, state, running = StudyRules(plan, space), StudyState(), []
    entries = [Queued(points=[{"x": 0.5}, {"x": 0.1, "width": 8, "kind": "a"}])]
    state.apply(entries[0])
    for number in range(plan.search.trials):
        proposal = unbroken.propose(state)
        if number == 6 if slow else number % 2:
            begun = StudyState(from_json(to_json(entry)) for entry in entries)
            assert StudyRules(plan, space).propose(begun) == proposal
        running.append(proposal)
        more = [proposal]
        if len(running) == 3:
            more.append(ended(plan, running.pop((7 * number) % 3)))
        for entry in more:
            entries.append(entry)
            state.apply(from_json(to_json(entry)))


def test_a_trial_that_was_halted_is_not_proposed_again_by_the_driver_that_halted_it(tmp_path):
    """Its process died too often; Optuna's `ask` would hand out any trial that it has as WAITING."""
    (tmp_path / "toy-1").mkdir()
    plan = plan_of(storage=str(tmp_path), folder=str(tmp_path / "toy-1"), trials=3)
    played = PlayedTune(plan, space)
    played.suggest("a")
    played.on_trial_complete("a", {"step": 5, METRIC: 1.0}, error=True)
    assert [played.suggest("b")["number"], played.suggest("c")["number"]] == [1, 2]
    assert played.suggest("d") == Searcher.FINISHED
    assert any(isinstance(entry, Halted) for entry in open_log(plan).read())


@pytest.mark.parametrize(
    ("sampler", "space", "objectives", "told"),
    [
        ("cmaes", space, TWO, "multi-objective"),
        ("cmaes", {"kind": ["a", "b"]}, (), "models the numbers that every trial has, and this space has none"),
        ("gp", lambda trial: {"x": trial.suggest_float(f"x{trial.number}", 0, 1)}, (), "this space has none"),
    ],
)
def test_a_sampler_that_cannot_search_the_space_is_refused(sampler, space, objectives, told):
    with pytest.raises(
        UserError, match=f"^--sampler {sampler}: cannot search this space .*; use --sampler tpe$"
    ) as said:
        check_sampler(plan_of(sampler, objectives), space)
    assert told in str(said.value)


@pytest.mark.parametrize(("sampler", "objectives"), CASES)
def test_a_sampler_that_can_is_accepted(sampler, objectives):
    check_sampler(plan_of(sampler, objectives), space)


def test_names_that_are_none_are_refused():
    with pytest.raises(UserError, match=r"^--sampler bayes: there is none of that name; one of tpe, gp, cmaes"):
        plan_of("bayes")
    with pytest.raises(UserError, match=r"^--pruner nil: there is none of that name; one of asha, hyperband"):
        plan_of(pruner="nil")
    with pytest.raises(UserError, match=r"^--sampler gp: a grid's points are given, none is pruned; leave it out"):
        plan_of("gp", grid={"x": [0, 1]}, trials=2, controls=2)


def test_a_samplers_state_that_would_run_code_is_refused(tmp_path):
    """CMA-ES keeps its state as a pickle, which whoever can write to the storage could have replaced."""
    plan, state = plan_of("cmaes"), StudyState()
    rules = StudyRules(plan, space)
    for _ in range(12):
        state.apply(rules.propose(state))
        state.apply(ended(plan, state.trials[-1].proposal))
    kept = next(trial for trial in state.trials if "cma:optimizer:0" in trial.proposal.attrs)
    hostile = b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
    attrs = {key: value for key, value in kept.proposal.attrs.items() if not key.startswith("cma:optimizer")}
    kept.proposal = dataclasses.replace(kept.proposal, attrs=attrs | {"cma:optimizer:0": hostile.hex()})
    with pytest.raises(UserError, match=r"refuses to load 'os.system' from a pickle"):
        StudyRules(plan, space).propose(state)
    assert not (tmp_path / "ran").exists()
