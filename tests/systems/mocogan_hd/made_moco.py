"""Made footage on the random domain, and runs small enough to train in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from svgan.images.domain import Domain
from svgan.latents.manifest import Latents, VideoCodes
from svgan.latents.shards import open_latents, write_latents
from svgan.systems.mocogan_hd.config import MoCoConfig
from svgan.systems.mocogan_hd.source import FrameSource
from svgan.systems.mocogan_hd.state import MoCoState
from svgan.training import recipes
from svgan.training.data import Material
from svgan.training.registry import make_source as make_source_of

CROSS = {"mode": "cross-domain", "contrastive_weight": 2.0, "matching_weight": 1.0}
PAPER = {**CROSS, "form": "paper"}


def made_latents(folder: Path, domain: Domain, frames: int = 60) -> Latents:
    """Codes near the generator's own subjects."""
    if not folder.exists():
        g = torch.Generator().manual_seed(5)
        waves = np.sin(np.arange(frames)[:, None] / np.linspace(3, 20, 6)) @ np.random.default_rng(0).normal(
            size=(6, 8)
        )
        w = domain.generator.map(torch.randn(1, 8, generator=g)).numpy()
        codes = np.repeat((w + 0.3 * waves)[:, None], 6, axis=1).astype(np.float32)
        write_latents(folder, [VideoCodes("v", np.arange(frames), codes)], domain=domain.digest, fps=25, components=6)
    return open_latents(str(folder))


def small(**overrides: Any) -> MoCoConfig:
    sizes: dict[str, Any] = dict(
        memory=6, components=6, mapping_samples=500, critic_size=8, video_widths=(4, 6), image_widths=(4, 6)
    )
    sizes |= dict(embedding=5, queue=8, batch=2, steps=3, window=4, n_generator=2, render_batch=32, lr=1e-3)
    made = recipes.make("mocogan-hd", **(sizes | overrides))
    assert isinstance(made, MoCoConfig)
    return made


def made_source(folder: Path, domain: Path, config: MoCoConfig) -> FrameSource:
    loaded = Domain.load(domain)
    made = make_source_of(config, Material(domain=loaded, latents=made_latents(folder, loaded)), "cpu")
    assert isinstance(made, FrameSource)
    return made


def made_state(frames: FrameSource, config: MoCoConfig) -> MoCoState:
    return MoCoState.build(config, frames.space, {"domain": "made", "fps": 25.0})


def numbers(state: MoCoState) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.tensors().items()}
