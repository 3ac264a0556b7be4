"""MLflow follows a study's record: a run opens when its trial begins, and is closed with its outcome.

A trial's own processes cannot close its run, because a stopped trial's are killed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from svgan.io import storage
from sweeps.record.entries import Ended, Entry, Halted, Proposed, Resumed
from sweeps.record.state import StudyState
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
        return []
