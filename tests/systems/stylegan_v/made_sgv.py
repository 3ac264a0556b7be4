"""Made footage on the random domain, and runs of StyleGAN-V small enough to train in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from svgan.images.domain import Domain
from svgan.latents.manifest import Latents, VideoCodes
from svgan.latents.shards import open_latents, write_latents
from svgan.systems.stylegan_v.config import StyleGANVConfig
from svgan.systems.stylegan_v.source import SparseClips
from svgan.systems.stylegan_v.state import StyleGANVState
from svgan.training import recipes
from svgan.training.data import Material
from svgan.training.registry import make_source as make_source_of


def made_latents(folder: Path, domain: Domain, frames: int = 60) -> Latents:
    """Two videos of a smooth motion about one subject."""
    if not folder.exists():
        subject = domain.generator.map(torch.randn(1, 8, generator=torch.Generator().manual_seed(5))).numpy()
        moves = np.random.default_rng(0).normal(size=(6, 8))
        codes = subject + 0.3 * np.sin(np.arange(frames)[:, None] / np.linspace(3, 20, 6)) @ moves
        layers = np.repeat(codes[:, None], 6, axis=1).astype(np.float32)
        videos = [VideoCodes(name, np.arange(frames), layers * sign) for name, sign in (("a", 1), ("b", 0.9))]
        write_latents(folder, videos, domain=domain.digest, fps=25, components=6)
    return open_latents(str(folder))


def small(**overrides: Any) -> StyleGANVConfig:
    sizes: dict[str, Any] = dict(width=8, channel_base=128, channel_max=8, joined=8, kernel=3, distance=8)
    sizes |= dict(window=9, batch=4, steps=3, lr=1e-3)
    made = recipes.make("stylegan-v", **(sizes | overrides))
    assert isinstance(made, StyleGANVConfig)
    return made


def made_source(folder: Path, domain: Path, config: StyleGANVConfig) -> SparseClips:
    loaded = Domain.load(domain)
    made = make_source_of(config, Material(domain=loaded, latents=made_latents(folder, loaded)), "cpu")
    assert isinstance(made, SparseClips)
    return made


def made_state(clips: SparseClips, config: StyleGANVConfig) -> StyleGANVState:
    return StyleGANVState.build(config, clips.space, {"domain": "made", "fps": 25.0})


def numbers(state: StyleGANVState) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.tensors().items()}
