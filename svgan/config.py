"""What a run is: every number that decides its outcome, checked and hashed."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from svgan.critics import DESIGNS
from svgan.errors import UserError

SPACES = ("wplus", "pca")
PRECISIONS = ("float32", "bfloat16")
ITERATIONS = ("plain", "fast")
OPTIONS = ("critic_kernel", "critic_rates", "critic_starts")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run of the temporal GAN. Recipes (`svgan.recipes`) make them; every field can be overridden.

    recipe: the recipe's name, for the record. space: the coordinates of the codes, 'wplus' (all L D of them) or
    'pca' (the first `components` principal ones). width: of the GRU's memories and of i; noise: width of s_k.
    trunk: widths of T. critic: a key of svgan.critics.DESIGNS; critic_widths: E's widths, input left out.
    window: frames of a training clip. batch: clips per step over all workers. steps: generator steps.
    n_critic: critic steps per generator step. lr, beta1, beta2: Adam's, for both. gp_weight, gap_weight: lambda_GP
    and lambda_GAP. ema: decay of the generator kept for sampling. precision: 'bfloat16' = autocast. critic_kernel (of
    'tconv'), critic_rates (of 'multiscale'), critic_starts (of 'holistic'): what one design alone lets a run set; None
    is the design's own. iteration: 'fast' finds the same gradients by hand (svgan.fast); figures differ by rounding.

    Raises UserError naming the field.
    """

    recipe: str
    space: Literal["wplus", "pca"]
    components: int | None = None
    width: int = 32
    noise: int = 32
    trunk: tuple[int, ...]
    critic: str = "tconv"
    critic_widths: tuple[int, ...]
    window: int = 25
    batch: int
    steps: int
    n_critic: int
    lr: float
    beta1: float = 0.5
    beta2: float = 0.999
    gp_weight: float = 10.0
    gap_weight: float = 100.0
    ema: float
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    critic_kernel: int | None = None
    critic_rates: int | None = None
    critic_starts: int | None = None
    iteration: Literal["plain", "fast"] = "plain"

    def __post_init__(self) -> None:
        for name in ("trunk", "critic_widths"):
            self._set_widths(name)
        _one_of("space", self.space, SPACES)
        _one_of("critic", self.critic, tuple(DESIGNS))
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("iteration", self.iteration, ITERATIONS)
        if self.iteration == "fast" and self.precision != "float32":
            raise UserError(f"iteration: 'fast' computes in float32, not {self.precision}; leave one of the two out")
        if (self.components is None) != (self.space == "wplus"):
            raise UserError(
                f"components: {self.components} with space {self.space!r}; give it for 'pca', and only there"
            )
        for name in ("width", "noise", "batch", "steps", "n_critic"):
            _whole(name, getattr(self, name), 1)
        if self.components is not None:
            _whole("components", self.components, 1)
        _whole("window", self.window, DESIGNS[self.critic].least_window)
        self._check_critic_options()
        _whole("seed", self.seed, 0)
        for name in ("lr", "beta1", "beta2", "gp_weight", "gap_weight", "ema"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise UserError(f"{name}: must be a number of 0 or more, got {value!r}")
            object.__setattr__(self, name, float(value))
        if self.lr == 0:
            raise UserError("lr: must be above 0")
        for name in ("beta1", "beta2", "ema"):
            if getattr(self, name) >= 1:
                raise UserError(f"{name}: must be below 1, got {getattr(self, name)}")

    def _set_widths(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, list | tuple) or not value:
            raise UserError(f"{name}: must be one or more whole numbers, got {value!r}")
        for width in value:
            _whole(name, width, 1)
        object.__setattr__(self, name, tuple(value))

    def critic_options(self) -> dict[str, int]:
        """The options that are set, by the names that the critic's design knows them by."""
        named = {name.removeprefix("critic_"): getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in named.items() if value is not None}

    def _check_critic_options(self) -> None:
        for name, value in self.critic_options().items():
            allowed = DESIGNS[self.critic].options.get(name)
            if allowed is None:
                owners = [design for design, critic in DESIGNS.items() if name in critic.options]
                raise UserError(
                    f"critic_{name}: critic {self.critic!r} has none; leave it out, or use {' or '.join(owners)}"
                )
            if isinstance(value, bool) or value not in allowed:
                raise UserError(f"critic_{name}: {value!r} is not one of {', '.join(map(str, allowed))}")

    def to_json(self) -> dict[str, Any]:
        """Every field; options of a critic that are not set are left out, as they were before there were any."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in values.items() if k not in OPTIONS or v is not None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunConfig:
        """The inverse of `to_json`. Raises UserError for unknown and missing fields."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UserError(f"{unknown[0]}: no such field of a run; known are {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(f"run configuration: {error}") from error

    def digest(self) -> str:
        """Twelve hex digits that change whenever a field does; those of a plain iteration are from before there was
        another."""
        values = {k: v for k, v in self.to_json().items() if (k, v) != ("iteration", "plain")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name}: {value!r} is unknown; one of {', '.join(allowed)}")


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}: must be a whole number of {least} or more, got {value!r}")
