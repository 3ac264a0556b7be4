"""Continue a given first frame, and measure how close the result is to the next frames of the footage.

A motion model in W moves the part of a code in W. The same movement is added to the frame's own W+ code, so a clip
begins with exactly that frame. For comparison, the frozen prediction repeats the first frame.

Axes: B clip, T frame, L W+ layer, D width of W.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.metrics.domain_report import psnr, ssim
from svgan.motion import ContinuedMotion
from svgan.sampling.sampler import Sampler
from svgan.torch_utils import rng
from svgan.training.data import Material
from svgan.training.registry import read_config


@torch.no_grad()
def continued(sampler: Sampler, codes: Tensor, length: int, seed: int) -> Tensor:
    """Continue W+ codes [B, L, D] of first frames as clips [B, T, L, D] that begin with them.

    A longer clip begins with the shorter one. Raises UserError for a model whose first frame is noise.
    """
    motion, space = motion_of(sampler), sampler.space
    first = space.encode(codes.to(space.mean))
    generator = rng.generator(space.mean.device, seed, "predict")
    moved = torch.cat(list(motion.continued(first, len(codes), length, generator)), 1)
    return codes.to(space.mean)[:, None] + (space.decode(moved) - space.decode(first)[:, None])


def motion_of(sampler: Sampler) -> ContinuedMotion:
    """Return the sampler's motion model. Raises UserError for a model that starts from noise."""
    if not isinstance(sampler.motion, ContinuedMotion):
        system = sampler.meta.get("config", {}).get("system", "codes")
        raise UserError(f"a run of {system!r} starts from noise, not from a frame; give one of recipe mocogan-hd")
    return sampler.motion


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """PSNR in dB and SSIM of frames 1 to T - 1, as means over clips and frames.

    The reference is the recorded frames if available, else the renderings of the footage's codes. psnr and ssim: of the
    prediction. frozen: of the repeated first frame. bound: of the footage's codes, rendered, against recorded frames.
    No prediction in this domain can exceed the bound.
    """

    clips: int
    frames: int
    psnr: float
    ssim: float
    frozen_psnr: float
    frozen_ssim: float
    bound_psnr: float | None = None
    bound_ssim: float | None = None


def measured(sampler: Sampler, material: Material, *, clips: int, length: int, seed: int) -> Prediction:
    """Measure predictions of `clips` stretches, spread evenly over the footage, at the frame distance of sampled clips.

    Raises UserError if the footage has no stretch that long.
    """
    motion_of(sampler)
    domain, latents, recorded = material.domain, material.latents, material.recorded
    stride = read_config(sampler.meta["config"]).stride
    steps = stride * np.arange(length)
    starts = latents.windows(int(steps[-1]) + 1)
    picks = np.linspace(0, len(starts) - 1, min(clips, len(starts))).round().astype(int)
    made = continued(sampler, torch.from_numpy(latents.codes[starts[picks]]), length, seed)
    found: dict[str, list[tuple[float, float]]] = {"": [], "frozen_": [], "bound_": []}
    for start, codes in zip(starts[picks], made, strict=True):
        own = domain.render(latents.codes[start + steps])
        truth = own if recorded is None else recorded[start + steps]
        found[""] += compared(domain.render(codes)[1:], truth[1:])
        found["frozen_"] += compared(np.repeat(truth[:1], length - 1, 0), truth[1:])
        if recorded is not None:
            found["bound_"] += compared(own[1:], truth[1:])
    figures: dict[str, float] = {}
    for whose, pairs in found.items():
        if pairs:
            figures[f"{whose}psnr"], figures[f"{whose}ssim"] = np.mean(pairs, 0).tolist()
    return Prediction(clips=len(picks), frames=length, **figures)


def compared(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """PSNR and SSIM of each frame of uint8 pictures [N, R, R, 3]."""
    errors = (x.astype(np.float64) - y).reshape(len(x), -1)
    return [(psnr(np.square(error).mean()), ssim(a[None], b[None])) for error, a, b in zip(errors, x, y, strict=True)]
