"""The configuration of a run: every number that determines its outcome, checked and hashed."""

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
    """The fields that the runs of every system have. Recipes (`svgan.training.recipes`) make configurations.

    Every field can be overridden. A system's configuration is a subclass; `svgan.training.registry` finds it by the
    system's name. Raises UserError naming the field.
    """

    system: ClassVar[str] = ""
    quiet: ClassVar[dict[str, Any]] = {}  # fields that JSON omits at these values: records from before them lack them
    unhashed: ClassVar[dict[str, Any]] = {}  # fields that the digest omits at these values, for the same reason

    learns_from_frames: ClassVar[bool] = False  # whether recorded frames can replace renderings

    paced: ClassVar[tuple[str, ...]] = (
        "recipe",
        "precision",
        "batch",
        "window",
    )  # fields that change an iteration's time

    recipe: str
    """The recipe's name, for the record."""

    window: int = 25
    """Frames of a training clip."""

    batch: int
    """Clips per step, over all workers."""

    steps: int
    """Iterations; each has one generator step, unless the system has more."""

    lr: float
    """Adam's learning rate."""

    beta1: float = 0.5
    """Adam's beta1."""

    beta2: float = 0.999
    """Adam's beta2."""

    ema: float
    """Decay of the generator's moving average, which is sampled."""

    seed: int = 0
    """Seed of weights, noise and clips."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """'float32', or 'bfloat16' by autocast."""

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
        """Require a number of 0 or more, and store it as a float."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise UserError(f"{name}: must be a number of 0 or more, got {value!r}")
        object.__setattr__(self, name, float(value))

    def _set_widths(self, name: str) -> None:
        """Require a list of whole numbers, and store it as a tuple."""
        value = getattr(self, name)
        if not isinstance(value, list | tuple) or not value:
            raise UserError(f"{name}: must be one or more whole numbers, got {value!r}")
        for width in value:
            whole_number(name, width, 1)
        object.__setattr__(self, name, tuple(value))

    @property
    def learns_from_pictures(self) -> bool:
        """Whether the run can learn to move another domain's pictures like the footage."""
        return False

    @property
    def span(self) -> int:
        """Consecutive frames of footage that a training clip covers."""
        return self.window

    @property
    def stride(self) -> int:
        """Frames of the footage from one frame of a sampled clip to the next."""
        return 1

    def to_json(self) -> dict[str, Any]:
        """The system's name and every field, except fields at the values in `quiet`."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        values = {"system": self.system, **values}
        return {k: v for k, v in values.items() if k not in self.quiet or v != self.quiet[k]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read a record of this system that `to_json` wrote; `svgan.training.registry.read_config` reads those of any
        system.

        Raises UserError for another system's record, and for unknown and missing fields.
        """
        values = dict(values)
        name = values.pop("system", cls.quiet.get("system", "another system"))
        if name != cls.system:
            raise UserError(f"system: {name!r} where {cls.system!r} is wanted; give a run of that")
        return cls._from_values(values)

    @classmethod
    def of_recipe(cls, recipe: str, defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> Self:
        """Make the recipe's configuration with these overrides. Raises UserError for unknown and invalid fields."""
        return cls._from_values({"recipe": recipe, **defaults, **overrides})

    @classmethod
    def _from_values(cls, values: Mapping[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UserError(f"{unknown[0]}: no such field of a run; known are {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(f"run configuration: {error}") from error

    def digest(self) -> str:
        """Twelve hex digits that change whenever a field changes."""
        values = {k: v for k, v in self.to_json().items() if k not in self.unhashed or v != self.unhashed[k]}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name}: {value!r} is unknown; one of {', '.join(allowed)}")


def whole_number(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}: must be a whole number of {least} or more, got {value!r}")
