"""Several objectives, and parameters that only some trials have: what Optuna, MLflow and the plots make of them."""

import io

import pytest
from made_plan import PLAN
from optuna.trial import TrialState
from played_tune import PlayedTune
from rich.console import Console

from svgan.errors import UserError
from sweeps import critic
from sweeps.driver import conclude
from sweeps.reports import plots, trial_table
from sweeps.search.asha import value_at
from sweeps.search.optuna_mirror import reports
from sweeps.search.optuna_store import open_mirror, open_study
from sweeps.storage.plan import Plan
from sweeps.storage.tag_names import PARETO
from sweeps.tracking.client import Tracking

METRIC = "latent_fd_best"


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "toy-1").mkdir()
    places = {
        "storage": str(tmp_path),
        "folder": str(tmp_path / "toy-1"),
        "tracking": f"sqlite:///{tmp_path}/mlflow.db",
    }
    return Plan.from_fields(PLAN | places | {"trials": 8, "objectives": ("fvd_short", "fvd_long")})


def searcher_on(plan, space):
    return PlayedTune(plan, space)


def space(trial):
    return {"x": trial.suggest_float("x", 0, 1)}


def finish(searcher, name, short, long, step=20):
    figures = {"fvd_short": short, "fvd_long": long}
    searcher.on_trial_complete(name, {"step": step, METRIC: 0.5, "finished": True, **figures})


def test_optuna_is_told_all_objectives_and_keeps_the_reports(plan):
    searcher = searcher_on(plan, space)
    for name in "abcd":
        searcher.suggest(name)
    searcher.on_trial_result("a", {"step": 10, METRIC: 3.0})
    finish(searcher, "a", 20.0, 50.0)
    searcher.on_trial_result("b", {"step": 10, METRIC: 4.0})
    searcher.on_trial_complete("b", {"step": 10, METRIC: 4.0})
    searcher.on_trial_complete("c", {"step": 20, METRIC: 1.0, "finished": True, "fvd_short": 3.0})
    searcher.on_trial_result("d", {"step": 10, METRIC: 2.0})
    trials = open_mirror(plan).study.get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert trials[0].values == [20.0, 50.0]
    assert [reports(t) for t in trials] == [{10: 3.0, 20: 0.5}, {10: 4.0}, {20: 1.0}, {10: 2.0}]
    assert trials[2].user_attrs["error"] == "fvd_long is None"
    again = searcher_on(plan, space)
    assert [value_at(10, trial.reports) for trial in again.core.state.trials] == [3.0, 4.0, 1.0, 2.0]
    again.suggest("d")
    again.on_trial_result("d", {"step": 10, METRIC: 99.0})
    finish(again, "d", 1.0, 1.0)
    assert reports(open_study(plan).get_trials()[3]) == {10: 2.0, 20: 0.5}


def test_the_front_is_tagged_drawn_and_told(plan, tmp_path):
    searcher, tracking = searcher_on(plan, space), Tracking(plan)
    for name in "abcdefgh":  # past the sampler's random start-up
        number = searcher.suggest(name)["number"]
        tracking.trial(number)
        finish(searcher, name, *([20.0, 60.0], [30.0, 40.0], [25.0, 50.0], [26.0, 51.0])[number % 4])
    assert conclude.pareto(plan, tracking, searcher.study) == (
        "Pareto front of fvd_short, fvd_long: trial 0 (20, 60); trial 1 (30, 40); trial 2 (25, 50); "
        "trial 4 (20, 60); trial 5 (30, 40); trial 6 (25, 50)"
    )
    assert [run.data.tags.get(PARETO) for run in tracking.runs()] == ["true", "true", "true", None] * 2
    assert [row.front for row in trial_table.rows_of(tracking.runs())] == [True, True, True, False] * 2
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(trial_table.render(trial_table.rows_of(tracking.runs()), "toy"))
    assert "2* " in (shown := console.export_text())
    assert "3* " not in shown
    drawn = plots.write_plots(searcher.study, {0: 60.0}, tmp_path / "plots", plan.search.objectives)
    assert {"pareto_fvd_short_fvd_long.png", "history.png", "latent_fd_against_x.png", "importance.png"} <= {
        path.name for path in drawn
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objectives": ("fid", "fvd_long")}, "--objectives fid: is not measured; give two or more of latent_fd, fvd"),
        ({"objectives": ("fvd_long",)}, "--objectives fvd_long: give two or more different ones"),
        ({"objectives": ("fvd_long", "fvd_long")}, "give two or more different ones"),
        ({"clips": 0}, "--objectives fvd_short,fvd_long: FVD needs clips, and --clips is 0"),
    ],
)
def test_bad_objectives_are_one_line(plan, change, words):
    with pytest.raises(UserError, match=words):
        plan.with_fields(**change)


def test_parameters_that_only_some_trials_have_are_proposed_drawn_and_weighed(tmp_path):
    plan = Plan.from_fields(PLAN | {"storage": str(tmp_path), "folder": str(tmp_path), "trials": 40, "controls": 5})
    searcher = PlayedTune(plan, critic.space, critic.STUDY.controls)
    seen, frames = set(), {"gp_weight", "contrastive_weight"}
    for k in range(40):
        params = searcher.suggest(str(k))["params"]
        own = {name for name in params if name.startswith("critic_") or name in frames}
        assert own in ({"gp_weight"}, frames) if "recipe" in params else len(own) == 1
        seen |= own
        value = params["lr"] + 0.1 * params.get("critic_kernel", 0)
        searcher.on_trial_complete(str(k), {"step": 10, METRIC: value, "finished": True})
    record = searcher.study
    assert seen == {"critic_kernel", "critic_rates", "critic_starts", *frames}
    assert [t.params for t in record.get_trials()[:5]] == critic.STUDY.controls
    assert set(plots.importance(record)) == {"critic", "lr", "lr_frames", *seen}
    drawn = {path.name for path in plots.write_plots(record, {}, tmp_path / "plots")}
    assert {f"latent_fd_against_{name}.png" for name in ("critic", "lr", "lr_frames", *seen)} <= drawn
