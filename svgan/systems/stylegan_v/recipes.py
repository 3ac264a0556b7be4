"""Recipes of StyleGAN-V. Each is a function of overrides: `stylegan_v(frames=2, steps=300)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from svgan.systems.stylegan_v.config import StyleGANVConfig


def stylegan_v(**overrides: Any) -> StyleGANVConfig:
    """StyleGAN-V on the domain's footage, small enough for two CPU cores at 64 px.

    From the paper: the wiring, 3 frames a clip, anchors 16 frames apart, the losses, R1 every 16 steps at 0.0002 R^2 /
    batch, Adam 0.0025 (0, 0.99), ADA's target. Ours: widths are an eighth of theirs, a step has 8 clips, and ADA adapts
    fast enough for a few thousand steps. The footage is not mirrored, because a subject's face has two different sides.
    """
    return StyleGANVConfig.of_recipe(
        "stylegan-v",
        dict(
            width=64,
            channel_base=2048,
            channel_max=64,
            batch=8,
            steps=1000,
            lr=2.5e-3,
            ema=0.995,
            augment_clips=50_000,
        ),
        overrides,
    )


def stylegan_v_full(**overrides: Any) -> StyleGANVConfig:
    """StyleGAN-V at the released code's sizes for 256 px, for GPUs.

    From the released code: all widths, 64 clips a step, 25 million clips, an EMA with a half-life of 20 000 clips, ADA
    over 500 000. Ours: bfloat16 throughout, where the released code has float16 in the upper layers. Windows have 33
    frames, the largest distance of a clip's frames; the released code has 1024.

    Cost: the authors took two days on four V100 (their README, docs/papers.md#stylegan-v-training).
    """
    return StyleGANVConfig.of_recipe(
        "stylegan-v-full",
        dict(
            width=512,
            channel_base=16_384,
            channel_max=512,
            batch=64,
            steps=25_000_000 // 64,
            lr=2.5e-3,
            ema=0.5 ** (64 / 20_000),
            precision="bfloat16",
        ),
        overrides,
    )


RECIPES: dict[str, Callable[..., StyleGANVConfig]] = {
    "stylegan-v": stylegan_v,
    "stylegan-v-full": stylegan_v_full,
}
