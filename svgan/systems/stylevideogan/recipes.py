"""Recipes of temporal GANs on codes. Each is a function of overrides: `tiny(gap_weight=0, steps=300)`.

All use the paper's wiring (H, P, T, A_j, E, TConv; Fig. 2). For the source of each number see docs/papers.md,
#stylevideogan-generator to #stylevideogan-training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from svgan.systems.stylevideogan.config import CodesConfig


def tiny(**overrides: Any) -> CodesConfig:
    """The recipe of CPU sweeps: 16 components, a three-layer critic, a few hundred steps (ours).

    16 components hold over 99 % of the variance of one talking face's codes. lambda_GAP is 1, a hundredth of `paper`'s:
    within a few hundred steps larger weights only make the motion rougher (docs/choices.md). The recipe uses the fast
    iteration, which was measured on CPUs only. The larger recipes, meant for GPUs, use
    the plain one.

    Cost: 0.09 s an iteration with GAP on one core, 0.06 s without (bench/LOG.md).
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
            iteration="fast",
        ),
        overrides,
    )


def pca(**overrides: Any) -> CodesConfig:
    """`paper` on the first 64 principal components of the codes, with a critic as narrow as they allow (ours)."""
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


def paper(**overrides: Any) -> CodesConfig:
    """StyleVideoGAN at full size, on the W+ codes themselves.

    From the paper: width 32, window 25, the wiring. From the third-party re-implementation, unverified: widths of T and
    E, Adam 1e-4 (0.5, 0.999), lambda_GAP 100, 5 critic steps, batch 64, 100 000 steps, EMA 0.995. Ours: lambda_GP 10 on
    standardised codes (the re-implementation has 50).

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


def stylegan_v_codes(**overrides: Any) -> CodesConfig:
    """StyleGAN-V's content and motion codes decoded to codes of a frozen generator, with the holistic critic on codes
    (ours).

    It costs as much as `tiny`. Its clips can be sampled at any time, fractions of a frame included. It has no GAP.
    After 180 s on one core FVD short is 18.6 and long 18.7; `tiny` has 17.0 and 30.6 (2026-11-23, README).

    From StyleGAN-V: anchors 16 frames apart, kernel 11, periods up to 1024 frames, a mapping of two layers. Different:
    all widths, no pictures in training, the Wasserstein loss.
    """
    return _recipe(
        "stylegan-v-codes",
        dict(
            space="pca",
            components=16,
            motion="acyclic",
            width=32,
            trunk=(128, 128),
            critic="holistic",
            critic_widths=(128, 64, 32),
            batch=32,
            steps=1000,
            n_critic=3,
            lr=1e-3,
            gap_weight=0.0,
            ema=0.99,
        ),
        overrides,
    )


def _recipe(name: str, defaults: dict[str, Any], overrides: dict[str, Any]) -> CodesConfig:
    if overrides.get("space") == "wplus" and "components" not in overrides:
        defaults.pop("components", None)
    return CodesConfig.of_recipe(name, defaults, overrides)


RECIPES: dict[str, Callable[..., CodesConfig]] = {
    "tiny": tiny,
    "pca": pca,
    "paper": paper,
    "stylegan-v-codes": stylegan_v_codes,
}
