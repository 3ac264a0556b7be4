"""Close every trial's MLflow run with its outcome, whatever ended it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from svgan.io import storage
from sweeps.search.optuna_store import STEP
from sweeps.storage.trial_failure import failure
from sweeps.storage.trial_outcome import WHY, Ending, how_it_ended
from sweeps.tracking.trial_log import TrialLog

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from sweeps.driver.budget import BudgetCallback
    from sweeps.storage.plan import Plan
    from sweeps.storage.stop_request import StopWatch


class RunCloser(Callback):
    """A Tune callback that closes a trial's MLflow run when Tune ends the trial: a killed process cannot do it itself.

    It ends the study if a trial was halted for a reason that would halt all others too.
    """

    def __init__(self, plan: Plan, watch: StopWatch, budget: BudgetCallback) -> None:
        self.plan, self.watch, self.budget = plan, watch, budget
        self.died: dict[int, str] = {}  # trials whose process died too often, and what was said last

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        ending = how_it_ended(trial.last_result)
        if ending == "halted" and (trial.last_result or {}).get(WHY):
            self.watch.stop(str(trial.last_result[WHY]))
        self._close(trial, ending, failure(trial) if ending == "failed" else None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.died[trial.config["number"]] = failure(trial)
        self._close(trial, how_it_ended(trial.last_result, error=True), failure(trial))

    def _close(self, trial: Trial, ending: Ending, error: str | None) -> None:
        try:
            number, step = trial.config["number"], int((trial.last_result or {}).get(STEP, 0))
            TrialLog(self.plan, number).close(ending, error, self.budget.figures(number), step)
        except storage.ERRORS as failed:
            self.watch.stop(f"neither MLflow nor --storage {self.plan.output.storage} can be written ({failed})")

    def __getstate__(self) -> dict[str, Any]:
        return {}
