"""Optuna's pruners over the record: what they decide, and that a replay of the record decides the same."""

import random

import optuna
import pytest
from made_plan import PLAN
from optuna.trial import TrialState

from sweeps.driver.definition import Study
from sweeps.driver.flags import Flags
from sweeps.driver.new_plan import decided_rungs
from sweeps.record.entries import Ended, Proposed, Reported
from sweeps.record.state import StudyState
from sweeps.search.proposer import StudyRules
from sweeps.storage.plan import Plan
from sweeps.storage.plan_parts import PRUNERS

STEPS = (10, 20, 30, 40, 50, 60, 70, 80)


def plan_of(pruner, **change):
    study = Study("toy", space={}, trials=40, steps=80)
    rungs = decided_rungs(study, Flags.parse(study, ["--pruner", pruner]).search)
    fields = {"trials": 40, "steps": 80, "rungs": rungs, "reduction": 3, "pruner": pruner}
    return Plan.from_fields(PLAN | fields | change)


def schedule(plan, seed, rules=None, at_a_time=4):
    """The entries of a study whose trials report in a random order. Two controls; the last report decides nothing."""
    chance, state, entries = random.Random(seed), StudyState(), []
    rules = rules or StudyRules(plan, {})

    def add(entry):
        entries.append(entry)
        state.apply(entry)

    running: dict[int, list[int]] = {}
    while len(state.trials) < plan.search.trials or running:
        if len(running) < at_a_time and len(state.trials) < plan.search.trials:
            number = len(state.trials)
            add(Proposed(number=number, params={"x": chance.random()}, control=number < 2))
            running[number] = list(STEPS)
            continue
        number = chance.choice(list(running))
        step = running[number].pop(0)
        value = state.trials[number].proposal.params["x"] + 10 / step * chance.random()
        value = min([value, *state.trials[number].reports.values()])
        last = step == STEPS[-1]
        stop = not last and rules.prunes(state, number, step, value)
        add(Reported(number=number, step=step, value=value, stop=stop))
        if stop or last:
            del running[number]
            figures = {} if stop else {"latent_fd_best": value}
            add(Ended(number=number, ending="pruned" if stop else "finished", step=step, figures=figures))
    return entries


@pytest.mark.parametrize("objectives", [(), ("latent_fd", "fvd_long")])
@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_driver_that_begins_anew_decides_what_an_unbroken_one_decided(pruner, objectives):
    plan = plan_of(pruner, objectives=objectives)
    entries = schedule(plan, 3)
    pruned = {entry.number for entry in entries if isinstance(entry, Reported) and entry.stop}
    assert bool(pruned) == (pruner != "none")
    assert not pruned & {0, 1}, "a control is never pruned"
    state = StudyState()
    for at, entry in enumerate(entries):
        if isinstance(entry, Reported) and entry.step < STEPS[-1] and entry.step in plan.search.rungs and at % 3 == 0:
            anew = StudyRules(plan, {})
            assert anew.prunes(state, entry.number, entry.step, entry.value) == entry.stop
            assert anew.prunes(state, entry.number, entry.step, entry.value) == entry.stop, "asked again"
        state.apply(entry)


def test_hyperband_and_median_decide_what_optuna_decides():
    """Optuna's own study, told the same in the same order, with its public `report` and `should_prune`."""
    pruners = {
        "hyperband": optuna.pruners.HyperbandPruner(min_resource=20, max_resource=80, reduction_factor=3),
        "median": optuna.pruners.MedianPruner(),
    }
    for name, pruner in pruners.items():
        plan = plan_of(name)
        study, trials, decided = optuna.create_study(study_name=plan.name, pruner=pruner), [], 0
        for entry in schedule(plan, 5):
            match entry:
                case Proposed():
                    trials.append(study.ask())
                case Reported():
                    trials[entry.number].report(entry.value, entry.step)
                    says = trials[entry.number].should_prune() if entry.step in plan.search.rungs else False
                    if entry.number > 1 and entry.step < STEPS[-1]:
                        assert says == entry.stop
                        decided += entry.stop
                case Ended() if entry.ending == "pruned":
                    study.tell(entry.number, state=TrialState.PRUNED)
                case Ended():
                    study.tell(entry.number, entry.figures["latent_fd_best"])
        assert decided > 3


@pytest.mark.parametrize(
    ("pruner", "rungs"), [("asha", (20, 40)), ("hyperband", (20, 60)), ("median", (20, 40)), ("none", ())]
)
def test_where_each_prunes(pruner, rungs):
    assert plan_of(pruner).search.rungs == rungs


def test_a_record_that_another_study_wrote_does_not_confuse_a_pruner():
    """The pruner's study in memory is made anew if the record is not what it has seen."""
    plan = plan_of("hyperband")
    rules = StudyRules(plan, {})
    assert schedule(plan, 7, rules) == schedule(plan, 7)
    assert schedule(plan, 8, rules) == schedule(plan, 8)
