"""Points of a study's space that the user gives (`--enqueue`): read, and checked against the space."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from svgan.errors import UserError
from svgan.training.overrides import value_of
from sweeps.search.proposer import Space, sample

Point = Mapping[str, Any]
DRAWS = 32  # of a space in which some parameters are there for some values of others only


def parse(words: Sequence[str]) -> list[dict[str, Any]]:
    """The points of words such as `gap_weight=3,width=64`. Values are JSON scalars, else text. Raises UserError."""
    points: list[dict[str, Any]] = []
    for word in words:
        point: dict[str, Any] = {}
        for part in word.split(","):
            name, equals, text = part.partition("=")
            if not (name and equals and text):
                raise UserError(f"--enqueue {word}: write FIELD=VALUE,FIELD=VALUE for a point, as in gap_weight=3")
            if name in point:
                raise UserError(f"--enqueue {word}: {name} is there twice; give another point as another word")
            point[name] = value_of(text)
        if point not in points:
            points.append(point)
    if not points:
        raise UserError("--enqueue: give a point behind it, as in gap_weight=3")
    return points


def describe(point: Point) -> str:
    return ",".join(f"{name}={value}" for name, value in point.items())


def check(space: Space, points: Sequence[Point]) -> None:
    """Raises UserError for a point that names no parameter of the space, or a value that the space does not have."""
    for point in points:
        known: set[str] = set()
        for draw in range(DRAWS):
            try:
                trial = drawn(space, point, seed=draw)
            except ValueError as error:
                raise UserError(f"--enqueue {describe(point)}: the study's space does not take it ({error})") from None
            known |= set(trial.params)
            if set(point) <= set(trial.params):
                break
        else:
            unknown = next(name for name in point if name not in trial.params)
            raise UserError(
                f"--enqueue {describe(point)}: {unknown} is no parameter of this study's space, or not beside these; "
                f"one of {', '.join(sorted(known)) or 'none'}"
            )
        for name, value in point.items():
            kind = trial.distributions[name]
            if trial.params[name] != value or not _contains(kind, value):
                raise UserError(
                    f"--enqueue {name}={value}: the study's space has it otherwise ({kind}); choose from that"
                )


def drawn(space: Space, point: Point, seed: int = 0) -> optuna.Trial:
    """A trial of the space with this point, its other parameters at random. Raises ValueError for a value of another
    type.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    study.enqueue_trial(dict(point))
    trial = study.ask()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a value is out of range, which is looked at afterwards
        sample(space, trial)
    return trial


def _contains(kind: optuna.distributions.BaseDistribution, value: Any) -> bool:
    try:
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, params={"it": value}, distributions={"it": kind}
        )
    except ValueError:
        return False
    return True
