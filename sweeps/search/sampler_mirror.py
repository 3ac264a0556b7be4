"""Optuna's study as a sampler sees it: in memory, a function of the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from sweeps.record.state import RecordedTrial, StudyState
from sweeps.search.optuna_mirror import OptunaMirror, as_optuna

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan


class SamplerMirror(OptunaMirror):
    """A halted trial is RUNNING here, since Optuna's `ask` would hand out one that is WAITING."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(InMemoryStorage(), plan.name, plan.search.objective_keys)

    def catch_up(self, state: StudyState) -> None:
        """Take in what the record has more than at the last call."""
        if self._count() > len(state.trials):  # a proposal that was not recorded
            self._begin()
        for trial in state.trials:
            if trial.number not in self.settled:
                self._mend(trial)
        # NSGA-II keeps the parents of a generation there. A driver that begins later would choose others, since more
        # trials have finished; so they are chosen anew for each trial.
        for key in self.storage.get_study_system_attrs(self.study_id):
            self.storage.set_study_system_attr(self.study_id, key, None)

    def _begin(self) -> None:
        self.storage = InMemoryStorage()
        self.study = self._created()

    def _wanted(self, trial: RecordedTrial) -> FrozenTrial:
        wanted = as_optuna(trial, self.objectives)
        if wanted.state == TrialState.WAITING:
            wanted.state = TrialState.RUNNING
        return wanted
