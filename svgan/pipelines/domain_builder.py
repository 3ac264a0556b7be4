"""Train a domain folder on aligned videos, for `svgan domain`.

The first video's subject is the domain's own. Its last `hold_out` share is never trained on, and every figure of the
model card is measured there. Other videos are further subjects, so that other people can be embedded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from svgan.faces.aligned_video import AlignedVideo
from svgan.faces.crops import shrink, split
from svgan.faces.masks import reconstruction_weight
from svgan.images.domain import Domain, save_domain
from svgan.images.domain_trainer import DomainConfig, DomainState, Pictures, train_domain
from svgan.images.encoder import Encoder
from svgan.images.stylegan2 import Generator, StyleGAN2Config
from svgan.io.atomic import disk_errors


def pictures_of(videos: Sequence[AlignedVideo], rows: Sequence[slice], size: int) -> Pictures:
    """Training pictures and their reconstruction weights from these rows of one subject's videos."""
    pixels = [shrink(v.crops[r], size) for v, r in zip(videos, rows, strict=True)]
    weight = [
        np.stack([reconstruction_weight(points, size) for points in v.landmarks[r] * (size / v.crops.shape[1])])
        for v, r in zip(videos, rows, strict=True)
    ]
    return Pictures(
        torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(np.concatenate(weight).astype(np.float16))
    )


def build_domain(
    subjects: Sequence[Sequence[AlignedVideo]],
    out: Path,
    *,
    name: str,
    model: StyleGAN2Config,
    config: DomainConfig,
    device: str | torch.device = "cpu",
    report: Callable[[int, dict[str, float]], None] = lambda step, values: None,
    report_every: int = 50,
    keep_every: int = 500,
) -> Domain:
    """Train (or continue from `out`/training) and write the domain folder `out`.

    subjects[k] holds the videos of one person; subjects[0][0] gives the held-out frames.
    """
    own = subjects[0]
    trained, held = split(own[0])
    rows = [[trained] + [slice(None)] * (len(own) - 1)] + [[slice(None)] * len(videos) for videos in subjects[1:]]
    pictures = [pictures_of(v, r, model.resolution) for v, r in zip(subjects, rows, strict=True)]
    state = DomainState(model, config, torch.device(device))
    work = out / "training"
    if (work / "state.safetensors").exists():
        state.load(work)
    train_domain(
        state,
        pictures,
        report=report,
        report_every=report_every,
        keep=lambda s: s.save(work),
        keep_every=keep_every,
    )
    generator, encoder = final_networks(state)
    facts = {
        "name": name,
        "training": {
            **asdict(config),
            "pictures_seen": config.steps * config.batch,
            "pictures": [len(p.pixels) for p in pictures],
            "held_out_rows": [held.start, held.stop],
        },
    }
    with disk_errors(out):
        return save_domain(out, generator, encoder, facts)


def final_networks(state: DomainState) -> tuple[Generator, Encoder]:
    """The averaged networks. The encoder's offset from W's average is made explicit, as in pSp."""
    generator, encoder = copy.deepcopy(state.ema_generator).cpu(), copy.deepcopy(state.ema_encoder).cpu()
    with torch.no_grad():
        generator.w_avg.copy_(generator.average_code())
        encoder.base.linear.bias.add_(encoder.w_avg - generator.w_avg)
        encoder.w_avg.copy_(generator.w_avg)
    return generator, encoder
