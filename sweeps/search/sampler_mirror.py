"""Optuna's study as a sampler sees it: in memory, a function of the record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.distributions import json_to_distribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.record.state import RecordedTrial, StudyState
from sweeps.search.optuna_mirror import OptunaMirror, as_optuna

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan


class SamplerMirror(OptunaMirror):
    """A halted trial is RUNNING here, since Optuna's `ask` would hand out one that is WAITING.

    The trials of another study (`--warm-start`) come before the first one.
    """

    def __init__(self, plan: Plan) -> None:
        self.warm: list[dict[str, Any]] = []
        self.settled: set[int] = set()  # trials that have ended in both, alike
        super().__init__(InMemoryStorage(), plan.name, plan.search.objective_keys)

    def catch_up(self, state: StudyState) -> None:
        """Take in what the record has more than at the last call."""
        if self._count() > len(state.trials) or self.warm != state.warm:  # a proposal was not recorded, or it is new
            self._begin(state.warm)
        for trial in state.trials:
            if trial.number not in self.settled:
                self._mend(trial)
                if trial.ended:
                    self.settled.add(trial.number)
        # NSGA-II keeps the parents of a generation there. A driver that begins later would choose others, since more
        # trials have finished; so they are chosen anew for each trial.
        for key in self.storage.get_study_system_attrs(self.study_id):
            self.storage.set_study_system_attr(self.study_id, key, None)

    def _begin(self, warm: list[dict[str, Any]]) -> None:
        self.storage, self.warm, self.settled = InMemoryStorage(), warm, set()
        self.study = self._created()
        for trial in warm:
            kinds = {name: json_to_distribution(kind) for name, kind in trial["distributions"].items()}
            self.study.add_trial(create_trial(params=trial["point"], distributions=kinds, values=trial["values"]))

    def _count(self) -> int:
        return super()._count() - len(self.warm)

    def _id_of(self, number: int) -> int:
        return super()._id_of(number + len(self.warm))

    def _wanted(self, trial: RecordedTrial) -> FrozenTrial:
        wanted = as_optuna(trial, self.objectives)
        if wanted.state == TrialState.WAITING:
            wanted.state = TrialState.RUNNING
        return wanted
