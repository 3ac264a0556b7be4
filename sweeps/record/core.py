"""The core of a study: what is decided when something happens. It knows neither Ray nor Optuna nor MLflow.

Something happens (a place is free, a report comes, a trial ends); the core decides, appends the decision to the record,
and only then lets the followers act on it. A driver that dies in between loses nothing: the next one reads the record,
and `begin` makes the followers agree with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from sweeps.record.entries import Driven, Ended, Entry, Halted, Proposed, Queued, Reported, Resumed, Warmed
from sweeps.record.log import Log
from sweeps.record.state import RecordedTrial, StudyState
from sweeps.storage.trial_outcome import Ending


class Rules(Protocol):
    """What a study decides by: functions of the record alone, so that a replay decides the same."""

    def propose(self, state: StudyState) -> Proposed:
        """The next trial: of the first point in the queue, else of the sampler."""
        ...

    def prunes(self, state: StudyState, number: int, step: int, value: float) -> bool:
        """Whether a report at this step, which `state` does not have yet, ends the trial."""
        ...


class Follower(Protocol):
    """A system that shows what the record says: Optuna's storage, MLflow."""

    def follow(self, entry: Entry, state: StudyState) -> None:
        """Act on an entry, which `state` has. May be called again for the same entry."""
        ...

    def reconcile(self, state: StudyState) -> list[str]:
        """Agree with the record, whatever was there before; return a line for each thing that was mended."""
        ...


class Core:
    """A study's decisions.

    trials: how many the study has; more than before lets it grow. objectives: the figures that a finished trial must
    have. stopping: whether no more trials may start. before: the entries of a study that was begun before studies had a
    record; asked for an empty log.
    """

    def __init__(
        self,
        log: Log,
        rules: Rules,
        *,
        trials: int,
        objectives: Sequence[str],
        followers: Sequence[Follower] = (),
        stopping: Callable[[], bool] = lambda: False,
        before: Callable[[], Sequence[Entry]] = tuple,
    ) -> None:
        self.log, self.rules, self.trials = log, rules, trials
        self.objectives, self.followers, self.stopping = objectives, followers, stopping
        self.state = StudyState(log.read() or log.start_with(before()))
        self.out: set[int] = set()  # the trials that this driver has handed out; one that it halted goes on in another

    def begin(
        self,
        driver: Driven,
        controls: Sequence[Mapping[str, object]] = (),
        points: Sequence[Mapping[str, object]] = (),
        warm: Warmed | None = None,
    ) -> list[str]:
        """Take the study over, apply what an earlier driver decided and did not apply, and reconcile the followers.

        Returns a line for each thing that was mended. controls: of a study that has no record yet.
        points: all that were ever enqueued; those that the record does not have yet are added to it.
        warm: trials of another study, of a record that has none yet.
        """
        self._record(driver)
        if warm and not self.state.warm:
            self._record(warm)
        if not self.state.begun:
            self.enqueue(controls, control=True)
        if added := points[self.state.enqueued :]:
            self.enqueue(added)
        for trial in self.state.unfinished():
            if trial.pruned:
                self._record(Ended(number=trial.number, ending="pruned", step=max(trial.reports)))
        return self.reconcile()

    def reconcile(self) -> list[str]:
        return [line for follower in self.followers for line in follower.reconcile(self.state)]

    def enqueue(self, points: Sequence[Mapping[str, object]], control: bool = False) -> None:
        self._record(Queued(points=[dict(point) for point in points], control=control))

    @property
    def left(self) -> int:
        """The number of trials that this driver has still to hand out."""
        waiting = sum(trial.number not in self.out for trial in self.state.unfinished())
        return waiting + max(0, self.trials - len(self.state.trials))

    def unfinished(self) -> bool:
        """Whether there are trials that have not ended, or that have not begun."""
        return bool(self.state.unfinished()) or len(self.state.trials) < self.trials

    def next(self) -> RecordedTrial | None:
        """Hand out the next trial: first those left unfinished, then new ones. None if there is none, or no more may
        start.
        """
        if not self.left or self.stopping():
            return None
        waiting = [trial for trial in self.state.unfinished() if trial.number not in self.out]
        if waiting:
            self.out.add(waiting[0].number)
            self._record(Resumed(number=waiting[0].number))
            return waiting[0]
        proposal = self.rules.propose(self.state)
        self.out.add(proposal.number)
        self._record(proposal)
        return self.state.trials[proposal.number]

    def report(
        self, number: int, step: int, value: float, history: Mapping[int, float] | None = None, *, last: bool = False
    ) -> bool:
        """Take in a report, and those before it that no driver has recorded; return whether the trial is pruned.

        history: the trial's figure by step, as far as the trial remembers. A driver can die between a checkpoint and
        its report; the trial goes on behind that report, and the rungs in between are decided now.
        last: the trial has ended by itself, so that no rung decides on this report.
        """
        trial = self.state.trials[number]
        for at, least in sorted({**(history or {}), step: value}.items()):
            if trial.pruned or trial.ended:
                break
            if at not in trial.reports and math.isfinite(least):
                stop = not (last and at == step) and self.rules.prunes(self.state, number, at, least)
                self._record(Reported(number=number, step=at, value=least, stop=stop))
        return trial.pruned

    def end(
        self, number: int, how: Ending, step: int = 0, figures: Mapping[str, float] | None = None, reason: str = ""
    ) -> None:
        """Take in how a trial ended. figures: those of a finished one."""
        trial, figures = self.state.trials[number], figures or {}
        if trial.ended:
            return
        missing = [name for name in self.objectives if not math.isfinite(figures.get(name, math.nan))]
        if trial.pruned or (how == "pruned" and trial.reports):
            self._record(Ended(number=number, ending="pruned", step=max(trial.reports)))
        elif how == "halted":
            self._record(Halted(number=number, step=step, reason=reason))
        elif how == "failed":
            self._record(Ended(number=number, ending="failed", step=step, reason=reason))
        elif how == "finished" and not missing:
            wanted = {name: float(figures[name]) for name in self.objectives}
            self._record(Ended(number=number, ending="finished", step=step, figures=wanted))
        else:
            reason = f"{missing[0]} is {figures.get(missing[0])}" if how == "finished" else "it ended without a figure"
            self._record(Ended(number=number, ending="failed", step=step, reason=reason))

    def _record(self, entry: Entry) -> None:
        entry = self.log.append(entry)
        self.state.apply(entry)
        for follower in self.followers:
            follower.follow(entry, self.state)
