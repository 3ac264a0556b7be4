"""Optuna's pruners by the names of `--pruner`, as functions of the study's record. ASHA is ours (`asha.py`).

What a pruner keeps of a trial (the rungs that it has completed) follows from the reports in the order of the record. So
a driver that begins gives them all to the pruner again before it asks anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from sweeps.record.state import StudyState

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan


def hyperband_rungs(first: int, steps: int, reduction: int) -> tuple[int, ...]:
    """The steps at which any bracket of Hyperband prunes: `first`, and each `reduction` times the one before."""
    found = []
    while first < steps:
        found.append(first)
        first *= reduction
    return tuple(found)


def make_pruner(plan: Plan) -> BasePruner:
    search = plan.search
    if search.pruner == "median":
        return optuna.pruners.MedianPruner()
    if search.pruner == "hyperband" and search.rungs:
        return optuna.pruners.HyperbandPruner(
            min_resource=search.rungs[0], max_resource=search.steps, reduction_factor=search.reduction
        )
    return optuna.pruners.NopPruner()


class PrunerStudy:
    """A study of one objective in memory, whose pruner decides on reports in the order of the record."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._begin()

    def _begin(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(study_name=self.plan.name, pruner=make_pruner(self.plan))
        self.trials: list[optuna.Trial] = []
        self.finished: set[int] = set()
        self.judged: list[tuple[int, int, float]] = []
        self.verdict = False

    def prunes(self, state: StudyState, number: int, step: int, value: float) -> bool:
        """Whether a report that `state` does not have yet ends the trial."""
        known = [(report.number, report.step, report.value) for report in state.reported]
        wanted = [*known, (number, step, value)]
        if self.judged != wanted[: len(self.judged)]:
            self._begin()
        for one in wanted[len(self.judged) :]:
            if len(self.judged) == len(known):
                self._finish(state)
            self.verdict = self._judge(*one)
        return self.verdict

    def _finish(self, state: StudyState) -> None:
        """Tell which trials have finished: the median is theirs."""
        for trial in state.trials:
            if trial.ending == "finished" and trial.reports and trial.number not in self.finished:
                self.finished.add(trial.number)
                self.study.tell(trial.number, trial.reports[max(trial.reports)], state=TrialState.COMPLETE)

    def _judge(self, number: int, step: int, value: float) -> bool:
        while len(self.trials) <= number:
            self.trials.append(self.study.ask())
        self.trials[number].report(value, step)
        self.judged.append((number, step, value))
        return self.trials[number].should_prune()
