"""Tune's part, played by a test: the searcher, scheduler and callback of a study's core, called in Tune's order.

`tests/sweeps/search/test_tune_contract.py` holds the order to the real Tune's.
"""

import uuid
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.utils.util import flatten_dict

from sweeps.record.core import Core
from sweeps.record.entries import Driven
from sweeps.search.optuna_store import open_log, open_mirror, open_study, recorded_before
from sweeps.search.proposer import StudyRules
from sweeps.search.tune_adapter import CoreCallback, CoreScheduler, CoreSearcher
from sweeps.search.warm_start import warmed
from sweeps.storage.plan import Plan


class PlayedTune:
    """One driver of a study, on its real record and Optuna's real storage."""

    def __init__(
        self,
        plan: Plan,
        space: Any,
        controls: Sequence[dict[str, Any]] = (),
        *,
        concurrency: int = 9,
        stopping: Callable[[], bool] = lambda: False,
        make: Callable[[int, dict[str, Any]], dict[str, Any]] = lambda number, params: {"run": params},
    ) -> None:
        self.plan, driver = plan, uuid.uuid4().hex
        self.core = Core(
            open_log(plan, driver),
            StudyRules(plan, space),
            trials=plan.search.trials,
            objectives=plan.search.objective_keys,
            followers=[open_mirror(plan)],
            stopping=stopping,
            before=lambda: recorded_before(plan),
        )
        warm = warmed(plan, space) if plan.search.warm_start and not self.core.state.warm else None
        self.mended = self.core.begin(Driven(driver=driver), controls, plan.search.enqueued, warm)
        metric = plan.search.objective
        self.searcher = CoreSearcher(self.core, make, metric=metric, concurrency=concurrency)
        self.scheduler = CoreScheduler(self.core, metric=metric)
        self.watch = SimpleNamespace(stop=lambda why: None)
        self.callback = CoreCallback(self.core, self.watch, metric=metric)  # type: ignore[arg-type]
        self.trials: dict[str, Any] = {}

    @property
    def left(self) -> int:
        return self.core.left

    @property
    def study(self) -> Any:
        """The study as a reader of the record sees it."""
        return open_study(self.plan)

    def suggest(self, name: str) -> Any:
        given = self.searcher.suggest(name)
        if isinstance(given, dict):
            self.trials[name] = SimpleNamespace(config=given, last_result={}, error_file=None)
        return given

    def on_trial_result(self, name: str, result: dict[str, Any]) -> str:
        trial = self.trials[name]
        trial.last_result = result
        return self.scheduler.on_trial_result(None, trial, flatten_dict(result))

    def on_trial_complete(self, name: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self.trials[name]
        trial.last_result = result if result is not None else trial.last_result
        self.searcher.on_trial_complete(name, flatten_dict(trial.last_result), error)
        tell = self.callback.on_trial_error if error else self.callback.on_trial_complete
        tell(0, [], trial)
