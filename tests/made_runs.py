"""Made codes and a run small enough to train in a second, for the tests of this folder and their subprocesses."""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path

import torch

import svgan.systems  # noqa: F401  (registers them, in spawned workers too)
from svgan.latents.clips import ClipSource
from svgan.latents.manifest import Latents, VideoCodes
from svgan.latents.shards import open_latents, write_latents
from svgan.latents.spaces import make_space
from svgan.training import recipes, registry
from svgan.training.checkpoint_manager import FolderKeeper
from svgan.training.config import RunConfig
from svgan.training.loop import train
from svgan.training.state import State

LAYERS, CODE_WIDTH = 3, 8


def made_codes(frames: int, seed: int) -> torch.Tensor:
    """Smooth codes [N, L, D]: a few sinusoids of unrelated periods, mixed, with a little noise."""
    g = torch.Generator().manual_seed(seed)
    time = torch.arange(frames)[:, None]
    period = torch.tensor([11.0, 17.3, 29.1, 47.7, 80.2])
    waves = torch.sin(2 * math.pi * (time / period + torch.rand(5, generator=g)))
    mixed = waves @ torch.randn(5, LAYERS * CODE_WIDTH, generator=torch.Generator().manual_seed(7))
    mixed = mixed + 0.02 * torch.randn(mixed.shape, generator=g)
    return mixed.view(frames, LAYERS, CODE_WIDTH)


def made_latents(folder: Path) -> Latents:
    if not folder.exists():
        videos = [VideoCodes(f"made-{k}", torch.arange(160).numpy(), made_codes(160, k).numpy()) for k in range(2)]
        write_latents(folder, videos, domain="made", fps=25.0, components=6)
    return open_latents(str(folder))


def small(**overrides) -> RunConfig:
    values = dict(
        components=4, width=8, noise=8, trunk=(16,), critic_widths=(16, 8), window=9, batch=8, steps=6, n_critic=2
    )
    return recipes.make("tiny", **(values | overrides))


def made_clips(folder: Path, config: RunConfig) -> ClipSource:
    latents = made_latents(folder)
    return ClipSource(latents, config.window, make_space(config.space, latents, config.components))


def made_state(folder: Path, **overrides) -> State:
    config = small(**overrides)
    return registry.build_state(config, made_clips(folder, config).space, {"domain": "made", "fps": 25.0})


def numbers(state: State) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in state.tensors().items()}


class WaitingReporter:
    """Says each step and stands still at one, so that a test can kill the process in the middle of training."""

    def __init__(self, wait_at: int) -> None:
        self.wait_at = wait_at

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        print("step", step, flush=True)
        if step == self.wait_at:
            signal.pause()


if __name__ == "__main__":
    latents_folder, runs = Path(sys.argv[1]), Path(sys.argv[2])
    config = small(steps=int(sys.argv[3]))
    keeper, reporter = FolderKeeper(runs), WaitingReporter(int(sys.argv[4]))
    train(config, made_clips(latents_folder, config), keeper=keeper, report_every=2, reporter=reporter)
