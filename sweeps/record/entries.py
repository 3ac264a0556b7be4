"""The entries of a study's record: one per decision, in the order of the decisions."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from sweeps.storage.trial_outcome import Ending


@dataclasses.dataclass(frozen=True, kw_only=True)
class Driven:
    """A driver begins. What an earlier driver had running starts again."""

    driver: str
    """A name that no other driver has."""
    where: str = ""
    """'process 123 on HOST'."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Queued:
    """Parameter points wait for their trials, before anything is proposed. A study begins with its controls."""

    points: list[dict[str, Any]]
    """Each has values of some or all parameters of the space. The sampler adds the others."""
    control: bool = False
    """Whether their trials are never pruned."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warmed:
    """Finished trials of another study, which the sampler sees before this study's own. They are no trials of it."""

    study: str
    """The other study's name."""
    trials: list[dict[str, Any]]
    """Each has `point` and `distributions` as in `Proposed`, and `values`: the figures that the study minimises."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposed:
    """A trial begins."""

    number: int
    params: dict[str, Any]
    """What the trial overrides in its recipe."""
    point: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The sampler's parameters, by name."""
    distributions: dict[str, str] = dataclasses.field(default_factory=dict)
    """Their distributions, as Optuna's JSON."""
    attrs: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the sampler keeps of the trial (Optuna's system attributes)."""
    control: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resumed:
    """A trial that an earlier driver left unfinished begins again, from its checkpoint."""

    number: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reported:
    """A report, with the decision that it led to."""

    number: int
    step: int
    value: float
    """The study's figure, lower is better: the lowest so far."""
    stop: bool = False
    """Whether the trial is pruned for it. One entry holds report and decision, so that none is without the other."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """A trial has ended for good."""

    number: int
    ending: Ending
    step: int = 0
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    """The figures of a finished trial that the study minimises."""
    reason: str = ""
    """Why it failed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halted:
    """A trial was stopped so that it may go on later."""

    number: int
    step: int = 0
    reason: str = ""


Entry = Driven | Queued | Warmed | Proposed | Resumed | Reported | Ended | Halted
KINDS: dict[str, type[Any]] = {
    kind.__name__.lower(): kind for kind in (Driven, Queued, Warmed, Proposed, Resumed, Reported, Ended, Halted)
}


def to_json(entry: Entry, **more: Any) -> bytes:
    """One line of JSON. more: what a reader of the file may want to know; `from_json` ignores what it does not know."""
    fields = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
    return json.dumps({"kind": type(entry).__name__.lower(), **fields, **more}, allow_nan=False).encode()


def from_json(line: bytes | str) -> Entry:
    """Raises ValueError for a line that is no entry of this version."""
    try:
        told = json.loads(line)
        kind = KINDS[told["kind"]]
        entry: Entry = kind(
            **{field.name: told[field.name] for field in dataclasses.fields(kind) if field.name in told}
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"no entry of a study's record ({error})") from None
    return entry
