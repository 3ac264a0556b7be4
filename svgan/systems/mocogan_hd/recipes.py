"""Recipes of MoCoGAN-HD. Each is a function of overrides: `mocogan_hd(batch=4, steps=300)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from svgan.systems.mocogan_hd.config import MoCoConfig

CROSS_WIDTHS = (96, 192, 384, 768, 1536, 1536)  # BigGAN's discriminator for 128 px, in the released code


def mocogan_hd(**overrides: Any) -> MoCoConfig:
    """MoCoGAN-HD on the domain's own generator (the released code's in-domain mode), small enough for two CPU cores.

    From the released code: the wiring, all losses and weights, 16 frames at a time step of 2, 5 generator steps, Adam
    1e-4 (0.5, 0.999), and the residual step of 0.2. Ours: widths are an eighth of theirs, three quarters of a W of
    width 64 move, critics see 32 px, a step has 2 clips, and there is an EMA.

    Cost: 5 s a step on one core, mostly for rendering 192 frames and their gradients.
    """
    return MoCoConfig.of_recipe(
        "mocogan-hd",
        dict(
            memory=48,
            components=48,
            mapping_samples=100_000,
            critic_size=32,
            video_widths=(8, 16, 32, 64),
            image_widths=(8, 16, 32, 64),
            embedding=32,
            queue=256,
            batch=2,
            steps=200,
            lr=1e-4,
            ema=0.99,
        ),
        overrides,
    )


def mocogan_hd_cross(**overrides: Any) -> MoCoConfig:
    """`mocogan_hd` with the critics of the cross-domain mode: single frames and a contrastive loss.

    Weights are the released code's. `form="paper"` selects the paper's formulas where the two differ.
    """
    cross = dict(mode="cross-domain", matching_weight=1.0, contrastive_weight=2.0)
    return mocogan_hd(**{"recipe": "mocogan-hd-cross", **cross, **overrides})


def mocogan_hd_full(**overrides: Any) -> MoCoConfig:
    """MoCoGAN-HD at the released code's sizes, for a W of width 512 and a GPU; 16 clips a step. Steps and EMA
    are ours.
    """
    return MoCoConfig.of_recipe(
        "mocogan-hd-full",
        dict(
            memory=384,
            components=384,
            critic_size=128,
            video_widths=(64, 128, 256, 512),
            image_widths=(64, 128, 256, 512),
            batch=16,
            steps=20_000,
            lr=1e-4,
            ema=0.995,
        ),
        overrides,
    )


def mocogan_hd_cross_full(**overrides: Any) -> MoCoConfig:
    """`mocogan_hd_full` in the cross-domain mode.

    From the released code: contrastive weight 2, matching weight 5 (as its scripts for FFHQ; 1 elsewhere), an embedding
    of width 256, and six blocks of 96 to 1536 channels. `form="paper"` works as in `mocogan_hd_cross`.
    """
    cross = dict(mode="cross-domain", matching_weight=5.0, contrastive_weight=2.0, image_widths=CROSS_WIDTHS)
    return mocogan_hd_full(**{"recipe": "mocogan-hd-cross-full", **cross, **overrides})


RECIPES: dict[str, Callable[..., MoCoConfig]] = {
    "mocogan-hd": mocogan_hd,
    "mocogan-hd-cross": mocogan_hd_cross,
    "mocogan-hd-full": mocogan_hd_full,
    "mocogan-hd-cross-full": mocogan_hd_cross_full,
}
