"""MLflow follows a study's record: a run opens when its trial begins, and is closed with its outcome.

A trial's own processes cannot close its run, because a stopped trial's are killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from svgan.io import storage
from sweeps.record.endings import endings, reasons
from sweeps.record.entries import Ended, Entry, Halted, Proposed, Resumed
from sweeps.record.state import StudyState
from sweeps.tracking import reconcile
from sweeps.tracking.client import Tracking
from sweeps.tracking.mlflow_state import comparison
from sweeps.tracking.sender import failures
from sweeps.tracking.trial_log import TrialLog

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan


class MlflowFollower:
    """A follower of the record (`sweeps.record.core.Follower`).

    config: the run's parameters, from a trial's number and what it overrides. used: the hours of a trial so far. stop:
    called with a reason if neither MLflow nor the storage can be written.
    """

    def __init__(
        self,
        plan: Plan,
        config: Callable[[int, dict[str, Any]], Mapping[str, Any]],
        used: Callable[[int], dict[str, float]],
        stop: Callable[[str], None],
    ) -> None:
        self.plan, self.config, self.used, self.stop = plan, config, used, stop

    def follow(self, entry: Entry, state: StudyState) -> None:
        match entry:
            case Proposed() | Resumed():
                proposal = state.trials[entry.number].proposal
                TrialLog(self.plan, entry.number).open(self.config(entry.number, proposal.params))
            case Ended():
                self._close(entry.number, entry)
            case Halted():
                self._close(entry.number, entry)
            case _:
                pass

    def _close(self, number: int, entry: Ended | Halted) -> None:
        ending = entry.ending if isinstance(entry, Ended) else "halted"
        try:
            TrialLog(self.plan, number).close(ending, entry.reason or None, self.used(number), entry.step)
        except storage.ERRORS as error:
            self.stop(f"neither MLflow nor --storage {self.plan.output.storage} can be written ({error})")

    def reconcile(self, state: StudyState) -> list[str]:
        """Mend what MLflow says otherwise than the record. No trial may be running. While MLflow is away, nothing
        happens: the end of the study reconciles again.
        """
        with contextlib.suppress(*failures()):
            return reconciled(self.plan, state)
        return []


def reconciled(plan: Plan, state: StudyState) -> list[str]:
    """Make MLflow agree with the record; return a line for each thing that was mended, or that is left.

    Raises one of `sender.failures()` while MLflow is away.
    """
    compared = comparison(plan, Tracking(plan), endings(state), "this process", reasons(state))
    mended, left = reconcile.settle([compared])
    return [
        *(f"MLflow, {one}; done: {one.remedy}" for one in mended),
        *(f"MLflow, {one}; this did not mend it: {one.remedy}" for one in left),
    ]
