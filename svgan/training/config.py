"""What a run is: every number that decides its outcome, checked and hashed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self

from svgan.errors import UserError

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, of any system: what all of them have. Recipes (`svgan.training.recipes`) make them; every field
    can be overridden. A system's own configuration is a subclass, found by its name (`svgan.training.registry`).

    recipe: the recipe's name, for the record. window: frames of a training clip. batch: clips per step over all
    workers. steps: iterations, of one generator step unless the system has more. lr, beta1, beta2: Adam's. ema: decay
    of the generator kept for sampling. seed: of weights, noise and clips. precision: 'bfloat16' = autocast.

    Raises UserError naming the field.
    """

    system: ClassVar[str] = ""
    quiet: ClassVar[dict[str, Any]] = {}  # fields that JSON leaves out at these values: from before there were any
    unhashed: ClassVar[dict[str, Any]] = {}  # fields that the digest leaves out at these values, for the same reason

    learns_from_frames: ClassVar[bool] = False  # so that recorded ones may take the place of renderings

    paced: ClassVar[tuple[str, ...]] = ("recipe", "precision", "batch", "window")  # what an iteration's time depends on

    recipe: str
    window: int = 25
    batch: int
    steps: int
    lr: float
    beta1: float = 0.5
    beta2: float = 0.999
    ema: float
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        one_of("precision", self.precision, PRECISIONS)
        for name in ("window", "batch", "steps"):
            whole_number(name, getattr(self, name), 1)
        whole_number("seed", self.seed, 0)
        for name in ("lr", "beta1", "beta2", "ema"):
            self._set_number(name)
        if self.lr == 0:
            raise UserError("lr: must be above 0")
        for name in ("beta1", "beta2", "ema"):
            if getattr(self, name) >= 1:
                raise UserError(f"{name}: must be below 1, got {getattr(self, name)}")

    def _set_number(self, name: str) -> None:
        """Refuse what is no number of 0 or more; 1 becomes 1.0."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise UserError(f"{name}: must be a number of 0 or more, got {value!r}")
        object.__setattr__(self, name, float(value))

    def _set_widths(self, name: str) -> None:
        """Refuse what is no list of whole numbers; a list becomes a tuple."""
        value = getattr(self, name)
        if not isinstance(value, list | tuple) or not value:
            raise UserError(f"{name}: must be one or more whole numbers, got {value!r}")
        for width in value:
            whole_number(name, width, 1)
        object.__setattr__(self, name, tuple(value))

    @property
    def learns_from_pictures(self) -> bool:
        """Whether another domain's pictures can be made to move as the footage's."""
        return False

    @property
    def span(self) -> int:
        """Consecutive frames of footage under a training clip."""
        return self.window

    def to_json(self) -> dict[str, Any]:
        """The system's name and every field, but for those of `quiet`."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        values = {"system": self.system, **values}
        return {k: v for k, v in values.items() if k not in self.quiet or v != self.quiet[k]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, of a record of this system; `svgan.training.registry.read_config` reads any. Raises
        UserError for another system's, and for unknown and missing fields."""
        values = dict(values)
        name = values.pop("system", cls.quiet.get("system", "another system"))
        if name != cls.system:
            raise UserError(f"system: {name!r} where {cls.system!r} is wanted; give a run of that")
        return cls._of(values)

    @classmethod
    def of_recipe(cls, recipe: str, defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> Self:
        """What a recipe says, and the overrides in its place. Raises UserError for unknown and bad fields."""
        return cls._of({"recipe": recipe, **defaults, **overrides})

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UserError(f"{unknown[0]}: no such field of a run; known are {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(f"run configuration: {error}") from error

    def digest(self) -> str:
        """Twelve hex digits that change whenever a field does."""
        values = {k: v for k, v in self.to_json().items() if k not in self.unhashed or v != self.unhashed[k]}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name}: {value!r} is unknown; one of {', '.join(allowed)}")


def whole_number(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}: must be a whole number of {least} or more, got {value!r}")
