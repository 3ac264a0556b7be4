"""What Optuna is told, and who is stopped."""

from types import SimpleNamespace

import optuna
import pytest
from made_plan import PLAN
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from sweeps.search.asha import ASHA
from sweeps.search.optuna_store import open_record, reports, sample
from sweeps.search.tune_searcher import OptunaSearcher
from sweeps.storage.plan import Plan
from sweeps.trial.training import running_minima

METRIC = "latent_fd_best"
CONTROLS = [{"x": 0.0}, {"x": 1.0}]


def space(trial):
    return {"x": trial.suggest_float("x", 0, 1), "kind": "fixed"}


@pytest.fixture
def storage(tmp_path):
    return tmp_path


def searcher_on(folder, trials=5, concurrency=2, objectives=()):
    names = tuple({METRIC: "latent_fd"}.get(name, name) for name in objectives)
    plan = Plan.from_fields(PLAN | {"folder": str(folder), "seed": 3, "trials": trials, "objectives": names})
    record = open_record(plan, controls=CONTROLS)
    own = {"metric": METRIC, "trials": trials, "concurrency": concurrency, "objectives": objectives}
    return OptunaSearcher(record, space, lambda number, params: {"run": params}, **own)


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
    assert not searcher.live


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
    searcher.save(str(tmp_path / "searcher.pkl"))
    assert not (tmp_path / "searcher.pkl").exists()
    assert searcher.__getstate__() == {}
    with pytest.raises(RuntimeError, match="--resume"):
        searcher.restore(str(tmp_path / "searcher.pkl"))


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


def decide(halving, number, step, value, control=False, **more):
    trial = SimpleNamespace(config={"number": number, "control": control})
    return halving.on_trial_result(None, trial, {"step": step, METRIC: value, **more})


def test_halving_stops_the_worse_half_at_a_rung_and_only_there():
    halving = ASHA(metric=METRIC, rungs=(10, 20), reduction=2)
    assert decide(halving, 0, 10, 5.0) == TrialScheduler.CONTINUE
    assert decide(halving, 1, 5, 99.0) == TrialScheduler.CONTINUE
    assert decide(halving, 1, 10, 6.0) == TrialScheduler.STOP
    assert decide(halving, 2, 10, 4.0) == TrialScheduler.CONTINUE
    assert decide(halving, 2, 15, 50.0) == TrialScheduler.CONTINUE
    assert decide(halving, 3, 12, 4.5) == TrialScheduler.CONTINUE
    assert decide(halving, 4, 10, 4.9) == TrialScheduler.STOP


def test_halving_never_stops_a_control_nor_a_finished_trial_but_counts_them():
    halving = ASHA(metric=METRIC, rungs=(10,), reduction=2)
    assert decide(halving, 0, 10, 1.0) == TrialScheduler.CONTINUE
    assert decide(halving, 1, 10, 9.0, control=True) == TrialScheduler.CONTINUE
    assert decide(halving, 2, 20, 99.0, finished=True) == TrialScheduler.CONTINUE
    assert halving.recorded == {10: {0: 1.0, 1: 9.0}}


def test_halving_leaves_what_is_not_finite_to_the_trial_itself():
    halving = ASHA(metric=METRIC, rungs=(10,), reduction=2)
    assert decide(halving, 0, 10, float("nan")) == TrialScheduler.CONTINUE
    assert halving.recorded == {10: {}}


def test_halving_recalls_the_rungs_from_optuna(storage):
    searcher = searcher_on(storage, concurrency=9)
    for name, value in (("a", 1.0), ("b", 2.0)):
        searcher.suggest(name)
        searcher.on_trial_result(name, {"step": 10, METRIC: value})
        searcher.on_trial_result(name, {"step": 20, METRIC: value / 2})
    halving = ASHA(metric=METRIC, rungs=(10, 15), reduction=2)
    halving.recall(searcher.study.get_trials())
    assert halving.recorded == {10: {0: 1.0, 1: 2.0}, 15: {0: 0.5, 1: 1.0}}
    assert decide(halving, 1, 20, 99.0) == TrialScheduler.CONTINUE
    assert decide(halving, 2, 10, 1.5) == TrialScheduler.STOP
