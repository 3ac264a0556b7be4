"""Whether MLflow agrees with a study's record, and what mends it.

The record says how each trial ended, and MLflow follows. Anything may die between two writes, so the two are compared
when a driver begins and ends, and by `python -m sweeps check`. `compare` is a pure function over plain data.
`mlflow_state.MlflowState` reads that data from a real MLflow, and applies what mends it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple, Protocol

from sweeps.storage.trial_outcome import Ending
from sweeps.tracking.client import STATUS

Driver = Literal["none", "this process", "another process"]
READY, RUNNING = "READY", "RUNNING"
PASSES = 4  # a mend may uncover what it hid, such as an open run behind waiting writes; three passes show all


@dataclasses.dataclass(frozen=True)
class Run:
    """A trial's run. status: MLflow's; outcome: the tag that says how the trial ended; began: orders a trial's runs."""

    id: str
    trial: int
    status: str
    outcome: str | None = None
    began: int = 0


@dataclasses.dataclass(frozen=True)
class Model:
    """A logged model. seed: '' if the trial has one seed; registered: whether a version of the registry refers to it;
    made: orders a step's models.
    """

    id: str
    trial: int
    step: int
    seed: str
    status: str
    registered: bool = False
    made: int = 0


@dataclasses.dataclass(frozen=True)
class Seen:
    """What MLflow and the outbox have of a study. study: the id and status of its own run; waiting: the number of
    entries in the outbox, by trial.
    """

    study: tuple[str, str] | None = None
    runs: Sequence[Run] = ()
    models: Sequence[Model] = ()
    waiting: Mapping[int, int] = dataclasses.field(default_factory=dict)


class Mlflow(Protocol):
    """What is asked of MLflow to read and to mend. Each call that mends may be repeated."""

    def seen(self) -> Seen: ...

    def send_waiting(self, trial: int) -> None:
        """Send the entries in the trial's outbox."""

    def close_run(self, trial: int, outcome: Ending, reason: str | None) -> None:
        """Set the final status of the trial's run, which is created if missing."""

    def set_aside(self, run: str) -> None:
        """End the run, and count it to no trial any more. It stays visible in MLflow."""

    def merge_run(self, kept: str, other: str) -> None:
        """Copy what `kept` lacks from `other`, and set that aside."""

    def delete_model(self, model: str) -> None: ...

    def merge_model(self, kept: str, other: str) -> None:
        """Copy the figures that `kept` lacks from `other`, and delete that."""

    def close_study(self, run: str, status: str) -> None: ...


class Mend(NamedTuple):
    """A method of what is mended (here of `Mlflow`) and its arguments."""

    method: str
    arguments: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """Something that is otherwise than the record says.

    kind: a few words, the same for all cases of it. trial: None if it belongs to the study. text: what disagrees;
    remedy: what the mend does; each in one line.
    """

    kind: str
    trial: int | None
    text: str
    remedy: str
    mend: Mend

    def __str__(self) -> str:
        return f"{'study' if self.trial is None else f'trial {self.trial}'}: {self.text}"


class Comparison(NamedTuple):
    """A way to find disagreements, and the object whose methods mend them."""

    find: Callable[[], list[Disagreement]]
    mended: Any


def settle(comparisons: Sequence[Comparison]) -> tuple[list[Disagreement], list[Disagreement]]:
    """Mend every disagreement; return what was mended, and what is left because its mend did not help.

    Raises what finding and mending raise, for example while MLflow is away.
    """
    tried: list[Disagreement] = []
    left: list[Disagreement] = []
    for _ in range(PASSES):
        found = [(one, comparison.mended) for comparison in comparisons for one in comparison.find()]
        left = [one for one, _ in found]
        new = [(one, mended) for one, mended in found if one not in tried]
        if not new:
            break
        for one, mended in new:
            getattr(mended, one.mend.method)(*one.mend.arguments)
            tried.append(one)
    return [one for one in tried if one not in left], left


def compare(
    seen: Seen,
    endings: Mapping[int, Ending | None],
    driver: Driver = "none",
    reasons: Mapping[int, str] | None = None,
) -> list[Disagreement]:
    """Every disagreement between MLflow and the record: the study's, then by trial.

    endings: of each trial of the record, None for one that runs or will go on. reasons: why trials failed. driver: who
    runs the study. While another process does, only trials that have ended are judged. A trial whose writes wait in the
    outbox is judged once they were sent.
    """
    found: list[Disagreement] = []
    if driver == "none" and seen.study and seen.study[1] == RUNNING:
        text = "its run in MLflow is RUNNING, though no driver lives"
        mend = Mend("close_study", (seen.study[0], "KILLED"))
        found.append(Disagreement("open study", None, text, "set it KILLED", mend))
    trials = {*endings, *(run.trial for run in seen.runs), *(model.trial for model in seen.models), *seen.waiting}
    for trial in sorted(trials):
        runs = [run for run in seen.runs if run.trial == trial]
        models = [model for model in seen.models if model.trial == trial]
        if driver == "another process" and endings.get(trial) is None:
            continue
        if waiting := seen.waiting.get(trial, 0):
            text = f"{waiting} writes wait for MLflow in the outbox"
            found.append(Disagreement("waiting writes", trial, text, "send them", Mend("send_waiting", (trial,))))
        elif trial not in endings:
            found += unrecorded(trial, runs, models)
        else:
            found += other_runs(trial, runs)
            found += other_outcome(trial, runs, endings[trial], (reasons or {}).get(trial))
            found += other_models(trial, models)
    return found


def unrecorded(trial: int, runs: Sequence[Run], models: Sequence[Model]) -> Iterator[Disagreement]:
    """What MLflow has of a trial that is not in the record. A later trial of this number would write into it."""
    for run in runs:
        text = f"MLflow has run {run.id} of it, and the record has no such trial"
        remedy = "set the run aside, so that no later trial writes into it"
        yield Disagreement("run without a trial", trial, text, remedy, Mend("set_aside", (run.id,)))
    for model in models:
        if not model.registered:
            text = f"MLflow has model {model.id} of step {model.step} of it, and the record has no such trial"
            yield Disagreement("model without a trial", trial, text, "delete it", Mend("delete_model", (model.id,)))


def in_order(runs: Sequence[Run]) -> list[Run]:
    """A trial's runs; the first is the one that `client.Tracking.find` finds."""
    return sorted(runs, key=lambda run: (run.began, run.id))


def other_runs(trial: int, runs: Sequence[Run]) -> Iterator[Disagreement]:
    """The trial's runs but for the first."""
    for other in in_order(runs)[1:]:
        first = in_order(runs)[0]
        text = f"MLflow has two runs of it, {first.id} and {other.id}"
        remedy = "copy what the first lacks, and set the other aside"
        yield Disagreement("two runs", trial, text, remedy, Mend("merge_run", (first.id, other.id)))


def other_outcome(trial: int, runs: Sequence[Run], ending: Ending | None, reason: str | None) -> Iterator[Disagreement]:
    """Whether the trial's run says how it ended."""
    run = next(iter(in_order(runs)), None)
    close = Mend("close_run", (trial, ending or "halted", reason))
    if ending is None:
        if run and run.status != RUNNING and run.outcome not in (None, "halted"):
            text = f"MLflow says that it is {run.outcome}, the record that it goes on"
            yield Disagreement("another outcome", trial, text, "call it halted until it goes on", close)
    elif run is None:
        text, remedy = f"it is {ending}, and MLflow has no run of it", "create one with this outcome, without figures"
        yield Disagreement("trial without a run", trial, text, remedy, close)
    elif run.status == RUNNING:
        text = f"it is {ending}, and its run in MLflow is RUNNING"
        yield Disagreement("open run", trial, text, f"close it as {ending}", close)
    elif (run.status, run.outcome) != (STATUS[ending], ending):
        text = f"it is {ending}, and MLflow says {run.outcome or 'nothing'} ({run.status})"
        yield Disagreement("another outcome", trial, text, f"say {ending}", close)


def other_models(trial: int, models: Sequence[Model]) -> Iterator[Disagreement]:
    """Models that are not whole, and further ones of the same step and seed. A registered one is never touched."""

    def place(model: Model) -> tuple[int, str]:
        return model.step, model.seed

    def worth(model: Model) -> tuple[bool, bool, int, str]:
        return not model.registered, model.status != READY, model.made, model.id

    for (step, seed), own in groupby(sorted(models, key=place), key=place):
        where = f"step {step}{f', seed {seed}' if seed else ''}"
        kept, *others = sorted(own, key=worth)
        for model in (kept, *others):
            if model.status != READY and not model.registered:
                text = f"model {model.id} of {where} is {model.status}: whoever uploaded it has died"
                yield Disagreement("unfinished model", trial, text, "delete it", Mend("delete_model", (model.id,)))
            elif model is not kept and not model.registered:
                text = f"MLflow has two models of {where}, {kept.id} and {model.id}"
                remedy = "copy the figures that the first lacks, and delete the other"
                yield Disagreement("two models", trial, text, remedy, Mend("merge_model", (kept.id, model.id)))
