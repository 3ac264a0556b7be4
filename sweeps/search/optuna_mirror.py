"""Optuna's study as the record says: in memory for tables and plots, in Optuna's storage for its dashboard.

A finished trial is COMPLETE, a pruned one PRUNED, a failed one FAIL with the reason, a halted one WAITING.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from sweeps.record.entries import Driven, Ended, Entry, Halted, Proposed, Queued, Reported, Resumed, Warmed
from sweeps.record.state import RecordedTrial, StudyState
from sweeps.storage.trial_outcome import Ending

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

# User attributes of an Optuna trial.
CONTROL, CONFIG, ERROR, REPORTS = "control", "config", "error", "reports"
STATES: dict[Ending, TrialState] = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "halted": TrialState.WAITING,
}
MOST_OF_A_REASON = 500


def reports(trial: FrozenTrial) -> dict[int, float]:
    """The metric at each report. It is a user attribute if the study has several objectives, for Optuna's `report` is
    for one.
    """
    return trial.intermediate_values or {int(step): value for step, value in trial.user_attrs.get(REPORTS, {}).items()}


def was_out(trial: FrozenTrial) -> bool:
    """Whether the trial was ever started. A WAITING trial that was not is a queued control of an earlier version."""
    return trial.state != TrialState.WAITING or CONFIG in trial.user_attrs


def failures() -> tuple[type[Exception], ...]:
    """The exceptions of a storage of Optuna's that cannot be used now."""
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError


class OptunaMirror:
    """A follower of the record (`sweeps.record.core.Follower`) that keeps an Optuna study.

    objectives: the figures of a finished trial that the study minimises, in the order of Optuna's values.
    """

    def __init__(self, storage: BaseStorage, name: str, objectives: tuple[str, ...]) -> None:
        self.storage, self.name, self.objectives = storage, name, objectives
        self.study = self._created()

    @classmethod
    def in_memory(cls, plan: Plan) -> OptunaMirror:
        return cls(InMemoryStorage(), plan.name, plan.search.objective_keys)

    def _created(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = [optuna.study.StudyDirection.MINIMIZE] * len(self.objectives)
        study = optuna.create_study(
            storage=self.storage, study_name=self.name, directions=directions, load_if_exists=True
        )
        if "format" not in study.user_attrs:
            study.set_user_attr("format", 1)
        self.study_id = self.storage.get_study_id_from_name(self.name)
        self.ids: dict[int, int] = {}  # of trials, by number
        return study

    def follow(self, entry: Entry, state: StudyState) -> None:
        match entry:
            case Driven() | Queued() | Warmed():
                return
            case Proposed() | Resumed() | Reported() | Halted() | Ended():
                try:
                    if entry.number > self._count():
                        raise Unlike(f"trial {self._count()} is missing")
                    self._mend(state.trials[entry.number])
                except (Unlike, KeyError):  # KeyError: somebody has deleted the study
                    self.reconcile(state)

    def reconcile(self, state: StudyState) -> list[str]:
        """Make Optuna's trials those of the record. Where they cannot become it, the study is written anew."""
        self.study = self._created()
        there = dict(enumerate(self.study.get_trials(deepcopy=False)))
        mended: list[str] = []
        try:
            if len(there) > len(state.trials):
                raise Unlike(f"{len(there)} trials, not {len(state.trials)}")
            for trial in state.trials:
                done = self._mend(trial, there.get(trial.number))
                mended += [f"Optuna, trial {trial.number}: {what}" for what in done]
        except Unlike as error:
            optuna.delete_study(storage=self.storage, study_name=self.name)
            self.study = self._created()
            for trial in state.trials:
                self._mend(trial)
            return [f"Optuna: the study was written anew ({error})"]
        return mended

    def _count(self) -> int:
        return self.storage.get_n_trials(self.study_id)

    def _id_of(self, number: int) -> int:
        if number not in self.ids:
            self.ids[number] = self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
        return self.ids[number]

    def _wanted(self, trial: RecordedTrial) -> FrozenTrial:
        return as_optuna(trial, self.objectives)

    def look(self, state: StudyState) -> dict[int | None, list[str]]:
        """What `reconcile` would mend, in words, by trial (None: the whole study). Writes nothing."""
        found: dict[int | None, list[str]] = {}
        there = dict(enumerate(self.study.get_trials(deepcopy=False)))
        try:
            if len(there) > len(state.trials):
                raise Unlike(f"{len(there)} trials, not {len(state.trials)}")
            for trial in state.trials:
                own = there.get(trial.number)
                lacks = self._lacks(trial, own) if own else [("it is missing", None)]
                if lacks:
                    found[trial.number] = [text for text, _ in lacks]
        except Unlike as error:
            return {None: [str(error)]}
        return found

    def _mend(self, trial: RecordedTrial, there: FrozenTrial | None = None) -> list[str]:
        """Write what Optuna does not have of this trial. Raises Unlike if it has something else."""
        if there is None and trial.number == self._count():
            self.storage.create_new_trial(self.study_id, template_trial=self._wanted(trial))
            lacks: list[tuple[str, Any]] = [("it was missing", None)]
        else:
            lacks = self._lacks(trial, there or self.storage.get_trial(self._id_of(trial.number)))
        for _, write in lacks:
            if write:
                write()
        return [text for text, _ in lacks]

    def _lacks(self, trial: RecordedTrial, there: FrozenTrial) -> list[tuple[str, Callable[[], Any] | None]]:
        """What Optuna's trial lacks, in words, with what writes it. Raises Unlike if it has something else."""
        wanted = self._wanted(trial)
        if there.params != wanted.params or there.user_attrs.get(CONFIG) != wanted.user_attrs[CONFIG]:
            raise Unlike(f"trial {trial.number} has other parameters")
        if there.state.is_finished():
            if same(there, wanted):
                return []
            raise Unlike(f"trial {trial.number} is {there.state.name}, not {wanted.state.name}, or has other figures")
        if any(wanted.intermediate_values.get(step) != value for step, value in there.intermediate_values.items()):
            raise Unlike(f"trial {trial.number} has other reports")
        at = self._id_of(trial.number)
        lacks: list[tuple[str, Callable[[], Any] | None]] = []
        for step, value in wanted.intermediate_values.items():
            if step not in there.intermediate_values:
                write = partial(self.storage.set_trial_intermediate_value, at, step, value)
                lacks.append((f"the report of step {step} was missing", write))
        for key, content in wanted.user_attrs.items():
            if there.user_attrs.get(key) != content:
                lacks.append((f"{key} was missing", partial(self.storage.set_trial_user_attr, at, key, content)))
        if there.state != wanted.state:
            move = partial(self.storage.set_trial_state_values, at, wanted.state, wanted.values)
            lacks.append((f"it was {there.state.name}, not {wanted.state.name}", move))
        return lacks


class Unlike(Exception):
    """Optuna's study has something that the record does not have and that cannot be taken back."""


def same(there: FrozenTrial, wanted: FrozenTrial) -> bool:
    """Whether an ended trial is as the record says."""
    return (there.state, there.values, there.intermediate_values) == (
        wanted.state,
        wanted.values,
        wanted.intermediate_values,
    ) and all(there.user_attrs.get(key) == value for key, value in wanted.user_attrs.items())


def as_optuna(trial: RecordedTrial, objectives: tuple[str, ...]) -> FrozenTrial:
    """A trial of the record as one of Optuna."""
    proposal, several = trial.proposal, len(objectives) > 1
    state = STATES[trial.ending] if trial.ending else TrialState.WAITING if trial.halted else TrialState.RUNNING
    attrs: dict[str, Any] = {CONFIG: proposal.params}
    if proposal.control:
        attrs[CONTROL] = True
    if trial.ended and trial.ended.reason:
        attrs[ERROR] = trial.ended.reason[:MOST_OF_A_REASON]
    if several and trial.reports:
        attrs[REPORTS] = {str(step): value for step, value in trial.reports.items()}
    values = None
    if trial.ended and trial.ending == "finished":
        values = [trial.ended.figures[name] for name in objectives]
    elif trial.ending == "pruned" and trial.reports and not several:
        values = [trial.reports[max(trial.reports)]]  # as Optuna's `tell` does
    return optuna.trial.create_trial(
        state=state,
        values=values,
        params=proposal.point,
        distributions={name: json_to_distribution(kind) for name, kind in proposal.distributions.items()},
        user_attrs=attrs,
        system_attrs=proposal.attrs,
        intermediate_values={} if several else dict(trial.reports),
    )


def recorded(trials: Iterable[FrozenTrial], objectives: tuple[str, ...]) -> list[Entry]:
    """The entries of a study that was begun before studies had a record, from Optuna's trials; [] without trials."""
    entries: list[Entry] = []
    trials = list(trials)
    if not trials:  # a driver has made Optuna's study, and died before its first decision
        return []
    for trial in filter(was_out, trials):
        entries += _recorded_trial(trial, objectives)
    # `Study.enqueue_trial` keeps a point so.
    points = [dict(trial.system_attrs.get("fixed_params", {})) for trial in trials if not was_out(trial)]
    return [*entries, Queued(points=points, control=True)]


def _recorded_trial(trial: FrozenTrial, objectives: tuple[str, ...]) -> list[Entry]:
    number = trial.number
    entries: list[Entry] = [
        Proposed(
            number=number,
            params=trial.user_attrs.get(CONFIG, dict(trial.params)),
            point=dict(trial.params),
            distributions={name: distribution_to_json(kind) for name, kind in trial.distributions.items()},
            attrs=dict(trial.system_attrs),
            control=bool(trial.user_attrs.get(CONTROL)),
        )
    ]
    entries += [Reported(number=number, step=step, value=value) for step, value in sorted(reports(trial).items())]
    last = max(reports(trial), default=0)
    if trial.state == TrialState.COMPLETE:
        figures = dict(zip(objectives, trial.values, strict=True))
        entries.append(Ended(number=number, ending="finished", step=last, figures=figures))
    elif trial.state == TrialState.PRUNED:
        entries.append(Ended(number=number, ending="pruned", step=last))
    elif trial.state == TrialState.FAIL:
        entries.append(Ended(number=number, ending="failed", step=last, reason=str(trial.user_attrs.get(ERROR, ""))))
    elif trial.state == TrialState.WAITING:
        entries.append(Halted(number=number, step=last))
    return entries
