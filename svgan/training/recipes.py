"""Named runs. Each is a function of overrides: `tiny(gap_weight=0, steps=300)`.

The wiring (H, P, T, A_j, E, TConv) is the paper's in all of them; see systems.md 1.3-1.6 for what each number is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from svgan.errors import UserError
from svgan.systems.mocogan_hd.config import MoCoConfig
from svgan.systems.stylegan_v.config import StyleGANVConfig
from svgan.systems.stylevideogan.config import CodesConfig
from svgan.training.config import RunConfig

CROSS_WIDTHS = (96, 192, 384, 768, 1536, 1536)  # of BigGAN's discriminator for 128 px (systems.md 2.3)


def paper(**overrides: Any) -> CodesConfig:
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


def pca(**overrides: Any) -> CodesConfig:
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


def tiny(**overrides: Any) -> CodesConfig:
    """What a CPU sweep uses: 16 components, a three-layer critic, some hundred steps (ours).

    16 components hold over 99 % of the variance of one talking face's codes. lambda_GAP is 1, a hundredth of
    `paper`'s: within some hundred steps larger weights only roughen the motion (docs/choices.md).
    The iteration is the fast one, which has been measured on CPUs alone: the larger recipes, meant for GPUs, have not.
    Cost: 0.09 s an iteration with GAP on a core, 0.06 s without (bench/LOG.md).
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


def stylegan_v_codes(**overrides: Any) -> CodesConfig:
    """Ours: StyleGAN-V's content and motion codes decoded to codes of a frozen generator, at `tiny`'s cost, with the
    holistic critic on codes. Its clips can be had at any time, fractions of a frame too. No GAP.
    After 180 s of a core FVD short is 18.6 and long 18.7, where `tiny` has 17.0 and 30.6 (2026-11-23, README).

    Theirs: anchors 16 frames apart, kernel 11, periods to 1024 frames, a mapping of two layers. Not so: all widths, no
    pictures in training, the Wasserstein loss.
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


def mocogan_hd(**overrides: Any) -> MoCoConfig:
    """MoCoGAN-HD on the domain's own generator (the released code's in-domain mode), small enough for two CPU cores.

    The released code's: the wiring, every loss and weight, 16 frames of every second one, 5 generator steps, Adam 1e-4
    (0.5, 0.999), the 0.2 of the residual. Ours: widths an eighth of theirs, three quarters of a 64 wide W, frames of
    32 px for the critics, 2 clips a step, an EMA.
    Cost: 5 s of one core a step, of which rendering 192 frames and their gradients takes most.
    """
    return _mocogan_hd(
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
    """`mocogan_hd` with the cross-domain mode's critics: single frames, and contrast. Weights are the released code's;
    `form="paper"` takes the paper's formulas where they differ."""
    cross = dict(mode="cross-domain", matching_weight=1.0, contrastive_weight=2.0)
    return mocogan_hd(**{"recipe": "mocogan-hd-cross", **cross, **overrides})


def mocogan_hd_full(**overrides: Any) -> MoCoConfig:
    """MoCoGAN-HD at the released code's sizes, for a W of 512 and a GPU; 16 clips a step. Steps and EMA are ours."""
    return _mocogan_hd(
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
    """`mocogan_hd_full` in the cross-domain mode. The released code's: contrast 2, matching 5, which its scripts have
    for FFHQ (1 elsewhere), an embedding of 256, six blocks of 96 to 1536 channels. `form="paper"` as of
    `mocogan_hd_cross`."""
    cross = dict(mode="cross-domain", matching_weight=5.0, contrastive_weight=2.0, image_widths=CROSS_WIDTHS)
    return mocogan_hd_full(**{"recipe": "mocogan-hd-cross-full", **cross, **overrides})


def _mocogan_hd(name: str, defaults: dict[str, Any], overrides: dict[str, Any]) -> MoCoConfig:
    return MoCoConfig.from_json({"system": MoCoConfig.system, "recipe": name, **defaults, **overrides})


def stylegan_v(**overrides: Any) -> StyleGANVConfig:
    """StyleGAN-V on the domain's footage, small enough for two CPU cores at 64 px.

    The paper's: the wiring, 3 frames a clip, anchors 16 frames apart, the losses, R1 every 16 steps at 0.0002 R^2 /
    batch, Adam 0.0025 (0, 0.99), ADA's target. Ours: widths an eighth of theirs, 8 clips a step, an ADA that is quick
    enough for some thousand steps, and footage that is not mirrored beside: a subject's face has two sides.
    """
    return _stylegan_v(
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
    """StyleGAN-V at the released code's sizes for 256 px, for GPUs: all widths, 64 clips a step, 25 million clips, an
    EMA of a half-life of 20 000 clips, ADA over 500 000. Ours: bfloat16 throughout, where theirs is float16 in upper
    layers, and windows of 33 frames, as far as a clip's frames are apart, where theirs are of 1024.
    Cost: theirs was two days of four V100 (systems.md 3.4).
    """
    return _stylegan_v(
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


def _stylegan_v(name: str, defaults: dict[str, Any], overrides: dict[str, Any]) -> StyleGANVConfig:
    return StyleGANVConfig.from_json({"system": StyleGANVConfig.system, "recipe": name, **defaults, **overrides})


RECIPES: dict[str, Callable[..., RunConfig]] = {
    "tiny": tiny,
    "pca": pca,
    "paper": paper,
    "stylegan-v-codes": stylegan_v_codes,
    "stylegan-v": stylegan_v,
    "stylegan-v-full": stylegan_v_full,
    "mocogan-hd": mocogan_hd,
    "mocogan-hd-cross": mocogan_hd_cross,
    "mocogan-hd-full": mocogan_hd_full,
    "mocogan-hd-cross-full": mocogan_hd_cross_full,
}


def make(name: str, **overrides: Any) -> RunConfig:
    """The recipe `name`, overridden. Raises UserError for an unknown recipe or field."""
    if name not in RECIPES:
        raise UserError(f"recipe: {name!r} is unknown; one of {', '.join(RECIPES)}")
    return RECIPES[name](**overrides)


def _recipe(name: str, defaults: dict[str, Any], overrides: dict[str, Any]) -> CodesConfig:
    values = {"recipe": name, **defaults, **overrides}
    if overrides.get("space") == "wplus" and "components" not in overrides:
        values.pop("components", None)
    return CodesConfig.from_json(values)
