"""What the real Tune gives to searcher, scheduler and callbacks, in which order, and in which form.

`played_tune.PlayedTune` and `simulation/simulated_studies.TunePart` play this part; here Tune plays it itself.
"""

from pathlib import Path
from typing import Any

import pytest
import ray
from made_plan import PLAN
from played_tune import PlayedTune
from ray import tune

from sweeps.search.tune_adapter import CoreCallback, CoreScheduler, CoreSearcher
from sweeps.storage.plan import Plan

RETRIES = 2
CALLS: list[tuple[str, int, Any]] = []


class SeenSearcher(CoreSearcher):
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        CALLS.append(("searcher ends", self.live[trial_id], error))
        super().on_trial_complete(trial_id, result, error)


class SeenScheduler(CoreScheduler):
    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        told = {key: value for key, value in result.items() if key == "step" or "reports" in key}
        CALLS.append(("scheduler", trial.config["number"], told))
        return super().on_trial_result(tune_controller, trial, result)


class SeenCallback(CoreCallback):
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        CALLS.append(("callback ends", trial.config["number"], False))
        super().on_trial_complete(iteration, trials, trial, **info)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        CALLS.append(("callback ends", trial.config["number"], True))
        super().on_trial_error(iteration, trials, trial, **info)


def training(folder: Path):
    """A function that Ray ships by value: its workers do not know this file. folder: for a file per attempt."""

    def train(config: dict[str, Any]) -> dict[str, Any]:
        """Trial 0 finishes; 1 is pruned at its first report, and one before it was missed; the process of 2 dies each
        time, that of 3 once, after a report.
        """
        number = config["number"]
        attempt = len(list(folder.glob(f"{number}-*")))
        (folder / f"{number}-{attempt}").touch()
        if number == 2:
            raise RuntimeError("away")
        value = 1.0 + number % 3
        for step in (10, 20, 30):
            history = [(at, value) for at in range(5, step + 1, 5)]
            tune.report({"step": step, "latent_fd_best": value, "reports": history})
            if number == 3 and attempt == 0 and step == 20:
                raise RuntimeError("away once")
        return {"step": 40, "latent_fd_best": value, "finished": True, "reports": [(40, value)]}

    return train


@pytest.fixture
def local_ray():
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.mark.slow
def test_reports_reach_the_scheduler_and_ends_the_searcher_and_then_the_callback(local_ray, tmp_path):
    places = {"storage": str(tmp_path), "folder": str(tmp_path / "toy-1")}
    Path(places["folder"]).mkdir()
    attempts = tmp_path / "attempts"
    attempts.mkdir()
    plan = Plan.from_fields(PLAN | places | {"trials": 4, "controls": 0, "rungs": (10,), "reduction": 2})
    played = PlayedTune(plan, {"x": [1]})
    core, metric = played.core, plan.search.objective
    CALLS.clear()
    tune.Tuner(
        tune.with_resources(training(attempts), {"CPU": 1}),
        tune_config=tune.TuneConfig(
            search_alg=SeenSearcher(core, lambda number, params: {}, metric=metric, concurrency=1),
            scheduler=SeenScheduler(core, metric=metric),
            num_samples=core.left,
        ),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path / "ray"),
            verbose=0,
            callbacks=[SeenCallback(core, played.watch, metric=metric)],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    ).fit()
    by_trial = [[(what, more) for what, number, more in CALLS if number == trial] for trial in range(4)]
    assert [what for what, _ in by_trial[0]][:3] == ["scheduler"] * 3
    assert [what for what, _ in by_trial[0]][-2:] == ["searcher ends", "callback ends"]
    assert [what for what, _ in by_trial[1]] == ["scheduler", "searcher ends", "callback ends"]
    assert by_trial[2] == [("searcher ends", True), ("callback ends", True)], "once, after the last retry"
    assert len(list(attempts.glob("2-*"))) == 1 + RETRIES
    steps = [told["step"] for what, told in by_trial[3] if what == "scheduler"]
    assert steps[:5] == [10, 20, 10, 20, 30], "a trial's reports come in order, those of a retry again"
    assert [what for what, _ in by_trial[3]][-2:] == ["searcher ends", "callback ends"]
    assert by_trial[0][0][1] == {"step": 10, "reports": [(5, 1.0), (10, 1.0)]}, (
        "pairs survive flattening, a dict does not"
    )
    first, second, third, fourth = core.state.trials
    assert (first.ending, first.reports) == ("finished", dict.fromkeys((5, 10, 15, 20, 25, 30, 40), 1.0))
    assert (second.ending, second.reports) == ("pruned", {5: 2.0, 10: 2.0}), "a missed report reaches the record"
    assert third.halted.reason.startswith("RuntimeError")
    assert (fourth.ending, fourth.reports) == (first.ending, first.reports), "a report that came twice is there once"
