"""What Optuna is told, and who is stopped."""

from pathlib import Path

import optuna
import pytest
from made_plan import PLAN
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState
from played_tune import PlayedTune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from sweeps.search.asha import value_at
from sweeps.search.optuna_mirror import reports
from sweeps.search.optuna_store import location
from sweeps.search.proposer import sample
from sweeps.storage.plan import Plan
from sweeps.trial.training import running_minima

METRIC = "latent_fd_best"
CONTROLS = [{"x": 0.0}, {"x": 1.0}]


def space(trial):
    return {"x": trial.suggest_float("x", 0, 1), "kind": "fixed"}


@pytest.fixture
def storage(tmp_path):
    return tmp_path


def searcher_on(folder, trials=5, concurrency=2, objectives=(), **more):
    names = tuple({METRIC: "latent_fd"}.get(name, name) for name in objectives)
    places = {"storage": str(folder), "folder": str(folder / "toy-1")}
    (folder / "toy-1").mkdir(exist_ok=True)
    plan = Plan.from_fields(PLAN | places | {"seed": 3, "trials": trials, "objectives": names} | more)
    return PlayedTune(plan, space, CONTROLS, concurrency=concurrency)


def states(searcher):
    return [trial.state for trial in searcher.study.get_trials()]


def test_controls_come_first_and_the_rest_is_proposed(storage):
    searcher = searcher_on(storage, concurrency=9)
    given = [searcher.suggest(f"t{k}") for k in range(5)]
    assert [g["params"]["x"] for g in given[:2]] == [0.0, 1.0]
    assert [g["control"] for g in given] == [True, True, False, False, False]
    assert [g["number"] for g in given] == [0, 1, 2, 3, 4]
    assert given[0]["run"] == {"x": 0.0, "kind": "fixed"}
    assert searcher.suggest("t5") == Searcher.FINISHED


def test_no_more_trials_are_out_than_may_run_at_once(storage):
    searcher = searcher_on(storage, concurrency=2)
    assert searcher.suggest("a")
    assert searcher.suggest("b")
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", {"step": 9, METRIC: 1.0, "finished": True})
    assert searcher.suggest("c")["number"] == 2


def test_optuna_is_told_how_each_trial_ended(storage):
    searcher = searcher_on(storage, concurrency=9)
    for name in "abcde":
        searcher.suggest(name)
    searcher.on_trial_result("a", {"step": 10, METRIC: 3.0})
    searcher.on_trial_result("a", {"step": 20, METRIC: 2.0})
    searcher.on_trial_complete("a", {"step": 20, METRIC: 2.0, "finished": True})
    searcher.on_trial_result("b", {"step": 10, METRIC: 4.0})
    searcher.on_trial_complete("b", {"step": 20, METRIC: 3.5, "done": True})
    searcher.on_trial_complete("c", {"step": 20, METRIC: float("nan"), "finished": True})
    searcher.on_trial_complete("d", error=True)
    searcher.on_trial_complete("e", {})
    fail, waiting = TrialState.FAIL, TrialState.WAITING
    assert states(searcher) == [TrialState.COMPLETE, TrialState.PRUNED, fail, waiting, fail]
    complete, pruned = searcher.study.get_trials()[:2]
    assert complete.value == 2.0
    assert complete.intermediate_values == {10: 3.0, 20: 2.0}
    assert pruned.intermediate_values == {10: 4.0, 20: 3.5}
    assert not searcher.searcher.live


def test_results_that_are_not_finite_or_come_twice_are_not_recorded(storage):
    searcher = searcher_on(storage)
    searcher.suggest("a")
    for value in (3.0, 9.0):
        searcher.on_trial_result("a", {"step": 10, METRIC: value})
    searcher.on_trial_result("a", {"step": 20, METRIC: float("inf")})
    searcher.on_trial_result("a", {METRIC: 1.0})
    assert searcher.study.get_trials()[0].intermediate_values == {10: 3.0}


@pytest.mark.parametrize("objectives", [(), (METRIC, "fvd_long")])
def test_what_a_dead_driver_missed_is_told_with_the_next_report(storage, objectives):
    """The trial goes on behind a checkpoint whose report never came."""
    first = searcher_on(storage, objectives=objectives)
    first.suggest("a")
    history = [{"step": float(step), "latent_fd": value} for step, value in ((10, 3.0), (20, 4.0), (30, 2.0))]
    first.on_trial_result("a", {"step": 10, METRIC: 3.0, "reports": running_minima(history[:1])})
    second = searcher_on(storage, objectives=objectives)
    second.suggest("a")
    second.on_trial_result("a", {"step": 30, METRIC: 2.0, "reports": running_minima(history)})
    (trial,) = second.study.get_trials()[:1]
    assert reports(trial) == {10: 3.0, 20: 3.0, 30: 2.0}


def test_a_new_driver_hands_out_what_was_running_under_its_number(storage):
    first = searcher_on(storage, trials=4)
    first.suggest("a")
    cut = first.suggest("b")
    first.on_trial_complete("a", {"step": 9, METRIC: 1.0, "finished": True})
    running = first.suggest("c")
    second = searcher_on(storage, trials=4)
    assert second.left == 3
    again = [second.suggest("x"), second.suggest("y")]
    assert again == [cut, running]
    second.on_trial_complete("x", {"step": 9, METRIC: 2.0, "finished": True})
    assert second.suggest("z")["number"] == 3
    for name in "yz":
        second.on_trial_complete(name, {"step": 9, METRIC: 2.0, "finished": True})
    assert second.suggest("w") == Searcher.FINISHED
    assert states(second) == [TrialState.COMPLETE] * 4


def test_same_seed_same_proposals(tmp_path):
    def proposals(folder):
        (tmp_path / folder).mkdir()
        searcher = searcher_on(tmp_path / folder, trials=8, concurrency=1)
        found = []
        for k in range(8):
            params = searcher.suggest(f"t{k}")["params"]
            searcher.on_trial_complete(f"t{k}", {"step": 1, METRIC: (params["x"] - 0.3) ** 2, "finished": True})
            found.append(params["x"])
        return found

    assert proposals("a") == proposals("b")


def test_state_is_never_pickled(storage, tmp_path):
    searcher = searcher_on(storage)
    searcher.searcher.save(str(tmp_path / "searcher.pkl"))
    assert not (tmp_path / "searcher.pkl").exists()
    assert [part.__getstate__() for part in (searcher.searcher, searcher.scheduler, searcher.callback)] == [{}] * 3
    with pytest.raises(RuntimeError, match="--resume"):
        searcher.searcher.restore(str(tmp_path / "searcher.pkl"))


def test_a_declarative_space_gives_one_value_per_entry():
    space = {
        "lr": FloatDistribution(1e-4, 1e-2, log=True),
        "width": IntDistribution(8, 64),
        "critic": ["a", "b"],
        "k": 3,
    }
    trial = optuna.create_study().ask()
    found = sample(space, trial)
    assert 1e-4 <= found["lr"] <= 1e-2
    assert 8 <= found["width"] <= 64
    assert found["critic"] in ("a", "b")
    assert found["k"] == 3
    assert set(trial.params) == {"lr", "width", "critic"}


def halving_on(folder, rungs):
    """A study without a sampler's choices, whose trials are all out."""
    plan = {"trials": 9, "rungs": rungs, "reduction": 2}
    played = searcher_on(folder, concurrency=9, **plan)
    for number in range(5):
        played.suggest(str(number))
    return played


def decide(played, number, step, value, **more):
    return played.on_trial_result(str(number), {"step": step, METRIC: value, **more})


def at_rung(played, rung):
    found = {trial.number: value_at(rung, trial.reports) for trial in played.core.state.trials}
    return {number: value for number, value in found.items() if value is not None}


def test_halving_prunes_the_worse_half_at_a_rung_and_only_there(storage):
    halving = halving_on(storage, (10, 20))
    assert decide(halving, 0, 10, 5.0) == TrialScheduler.CONTINUE
    assert decide(halving, 2, 5, 99.0) == TrialScheduler.CONTINUE
    assert decide(halving, 2, 10, 6.0) == TrialScheduler.STOP
    assert decide(halving, 3, 10, 4.0) == TrialScheduler.CONTINUE
    assert decide(halving, 3, 15, 50.0) == TrialScheduler.CONTINUE
    assert decide(halving, 4, 12, 4.5) == TrialScheduler.CONTINUE
    halving.suggest("5")
    assert decide(halving, 5, 10, 4.9) == TrialScheduler.STOP


def test_halving_never_prunes_a_control_nor_a_finished_trial_but_counts_them(storage):
    halving = halving_on(storage, (10,))
    assert decide(halving, 0, 10, 1.0) == TrialScheduler.CONTINUE
    assert decide(halving, 1, 10, 9.0) == TrialScheduler.CONTINUE
    assert decide(halving, 2, 20, 99.0, finished=True) == TrialScheduler.CONTINUE
    assert at_rung(halving, 10) == {0: 1.0, 1: 9.0}


def test_halving_leaves_what_is_not_finite_to_the_trial_itself(storage):
    halving = halving_on(storage, (10,))
    assert decide(halving, 2, 10, float("nan")) == TrialScheduler.CONTINUE
    assert at_rung(halving, 10) == {}


def test_the_next_driver_recalls_the_rungs(storage):
    first = searcher_on(storage, concurrency=9, rungs=(10, 15))
    for name, value in (("a", 1.0), ("b", 2.0), ("c", 0.5)):
        first.suggest(name)
        first.on_trial_result(name, {"step": 10, METRIC: value})
        first.on_trial_result(name, {"step": 20, METRIC: value / 2})
    second = searcher_on(storage, concurrency=9, rungs=(10, 15))
    assert at_rung(second, 10) == {0: 1.0, 1: 2.0, 2: 0.5}
    assert at_rung(second, 15) == {0: 0.5, 1: 1.0, 2: 0.25}
    for name in "abcd":
        second.suggest(name)
    assert decide(second, "c", 20, 99.0) == TrialScheduler.CONTINUE, "that rung was decided"
    assert decide(second, "d", 10, 1.5) == TrialScheduler.STOP


def test_a_rung_that_was_decided_and_not_applied_is_applied_by_the_next_driver(storage):
    """The driver dies between a rung's report and the end of the trial."""
    first = searcher_on(storage, concurrency=9, rungs=(10,))
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 9.0)):
        first.suggest(name)
        decision = first.on_trial_result(name, {"step": 10, METRIC: value})
    assert decision == TrialScheduler.STOP
    second = searcher_on(storage, concurrency=9, rungs=(10,))
    assert [second.suggest(name)["number"] for name in "xyz"] == [0, 1, 3], "trial 2 was pruned"
    assert second.study.get_trials()[2].state == TrialState.PRUNED


def test_a_rung_that_no_driver_saw_is_decided_when_the_report_comes(storage):
    """The trial went on behind a rung while no driver lived; it ends as it would have ended there."""
    played = searcher_on(storage, concurrency=9, rungs=(10,))
    for name in "abc":
        played.suggest(name)
    decide(played, "a", 10, 1.0)
    decide(played, "b", 10, 1.0)
    missed = [(5, 9.5), (10, 9.0), (15, 0.5), (20, 0.5)]
    assert decide(played, "c", 20, 0.5, reports=missed) == TrialScheduler.STOP
    played.on_trial_complete("c")
    assert reports(played.study.get_trials()[2]) == {5: 9.5, 10: 9.0}
    assert played.study.get_trials()[2].state == TrialState.PRUNED


def test_optunas_storage_says_what_the_record_says_whatever_was_there(storage):
    """`optuna-dashboard` reads it. What is missing is added; a study that cannot be mended is written anew."""
    played = searcher_on(storage, concurrency=9)
    for name, value in (("a", 1.0), ("b", 2.0)):
        played.suggest(name)
        decide(played, name, 5, value)
    played.on_trial_complete("a", {"step": 9, METRIC: 1.0, "finished": True})
    where = location(played.plan)
    theirs = optuna.load_study(study_name=played.plan.name, storage=where)
    theirs.tell(1, 77.0)
    assert searcher_on(storage).mended == [
        "Optuna: the study was written anew (trial 1 is COMPLETE, not RUNNING, or has other figures)"
    ]
    Path(where.removeprefix("sqlite:///")).unlink()
    assert searcher_on(storage).mended == [f"Optuna, trial {number}: it was missing" for number in range(2)]
    assert searcher_on(storage).mended == []
    found = optuna.load_study(study_name=played.plan.name, storage=where).get_trials()
    wanted = played.study.get_trials()
    for one, other in zip(found, wanted, strict=True):
        assert (one.state, one.values, one.params, one.distributions, one.intermediate_values, one.user_attrs) == (
            other.state,
            other.values,
            other.params,
            other.distributions,
            other.intermediate_values,
            other.user_attrs,
        )


def test_a_study_that_somebody_deletes_in_optunas_storage_is_written_anew(storage):
    """`optuna-dashboard` can do so while the study runs."""
    played = searcher_on(storage, concurrency=9)
    played.suggest("a")
    decide(played, "a", 5, 2.0)
    optuna.delete_study(study_name=played.plan.name, storage=location(played.plan))
    decide(played, "a", 10, 1.0)
    (trial,) = optuna.load_study(study_name=played.plan.name, storage=location(played.plan)).get_trials()
    assert trial.intermediate_values == {5: 2.0, 10: 1.0}
