"""Named runs. Each is a function of overrides: `tiny(gap_weight=0, steps=300)`.

The wiring (H, P, T, A_j, E, TConv) is the paper's in all of them; see systems.md 1.3-1.6 for what each number is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from svgan.config import RunConfig
from svgan.errors import UserError


def paper(**overrides: Any) -> RunConfig:
    """StyleVideoGAN at full size on W+ codes themselves.

    The paper's: width 32, window 25, the wiring. The third-party re-implementation's, unverified: T's and E's widths,
    Adam 1e-4 (0.5, 0.999), lambda_GAP 100, 5 critic steps, batch 64, 100 000 steps, EMA 0.995. Ours: lambda_GP 10 on
    standardised codes (theirs is 50).
    Cost: about 7 s an iteration on two cores at 18 x 512; meant for a GPU.
    """
    return _recipe(
        "paper",
        dict(
            space="wplus",
            trunk=(64, 128, 256, 512),
            critic_widths=(4608, 2304, 1152, 576, 288, 32),
            batch=64,
            steps=100_000,
            n_critic=5,
            lr=1e-4,
            ema=0.995,
        ),
        overrides,
    )


def pca(**overrides: Any) -> RunConfig:
    """`paper` on the first 64 principal components of the codes, with a critic as narrow as those allow (ours)."""
    return _recipe(
        "pca",
        dict(
            space="pca",
            components=64,
            trunk=(64, 128, 256),
            critic_widths=(512, 256, 128, 64, 32),
            batch=64,
            steps=100_000,
            n_critic=5,
            lr=1e-4,
            ema=0.995,
        ),
        overrides,
    )


def tiny(**overrides: Any) -> RunConfig:
    """What a CPU sweep uses: 16 components, a three-layer critic, some hundred steps (ours).

    16 components hold over 99 % of the variance of one talking face's codes. lambda_GAP is 1, a hundredth of
    `paper`'s: within some hundred steps larger weights only roughen the motion (docs/choices.md).
    Cost: 0.1 s an iteration with GAP on an idle core, 0.08 s without.
    """
    return _recipe(
        "tiny",
        dict(
            space="pca",
            components=16,
            trunk=(64, 128),
            critic_widths=(128, 64, 32),
            batch=32,
            steps=1000,
            n_critic=3,
            lr=1e-3,
            gap_weight=1.0,
            ema=0.99,
        ),
        overrides,
    )


RECIPES: dict[str, Callable[..., RunConfig]] = {"tiny": tiny, "pca": pca, "paper": paper}


def make(name: str, **overrides: Any) -> RunConfig:
    """The recipe `name`, overridden. Raises UserError for an unknown recipe or field."""
    if name not in RECIPES:
        raise UserError(f"recipe: {name!r} is unknown; one of {', '.join(RECIPES)}")
    return RECIPES[name](**overrides)


def _recipe(name: str, defaults: dict[str, Any], overrides: dict[str, Any]) -> RunConfig:
    values = {"recipe": name, **defaults, **overrides}
    if overrides.get("space") == "wplus" and "components" not in overrides:
        values.pop("components", None)
    return RunConfig.from_json(values)
