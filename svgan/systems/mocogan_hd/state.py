"""The training state of MoCoGAN-HD."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from svgan.latents.spaces import Space, WSpace
from svgan.systems.mocogan_hd.config import MoCoConfig
from svgan.systems.mocogan_hd.critics import EmbeddingCritic, KeyQueue, PatchCritic
from svgan.systems.mocogan_hd.motion import LSTMMotion, NoiseGuess
from svgan.torch_utils import rng
from svgan.training.state import State, make_adam

IMAGE_BETA1, IMAGE_EPS = 0.0, 1e-6  # Adam of the embedding critic, as in the released code


M = TypeVar("M", bound=nn.Module)


def drawn(config: MoCoConfig, name: str, make: Callable[..., M], *arguments: Any) -> M:
    """Call `make` with the arguments; its initial weights depend on the run's seed and this name only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.generator("cpu", config.seed, "weights", name).initial_seed())
        return make(*arguments)


def make_lstm(config: MoCoConfig, space: Space) -> LSTMMotion:
    """Make the motion generator that `config` describes."""
    assert isinstance(space, WSpace)
    return LSTMMotion(
        space,
        memory=config.memory,
        components=config.components,
        residual=config.residual,
        step=config.residual_step,
        half_speed=config.half_speed,
    )


@dataclass(eq=False, kw_only=True)
class MoCoState(State):
    """The state of MoCoGAN-HD: that of every run, and the modules below.

    generator: motion and guess (H), trained by one optimiser. A critic exists if a loss weight needs it. slow: the
    momentum encoder of the embedding critic, with its queues of keys.
    """

    trained: ClassVar[tuple[str, ...]] = ("generator", "video_critic", "image_critic")
    kept: ClassVar[tuple[str, ...]] = ("slow", "real_keys", "fake_keys")

    config: MoCoConfig
    motion: LSTMMotion
    ema: LSTMMotion
    generator: nn.ModuleDict
    generator_optimizer: torch.optim.Adam
    video_critic: PatchCritic | None = None
    video_critic_optimizer: torch.optim.Adam | None = None
    image_critic: PatchCritic | EmbeddingCritic | None = None
    image_critic_optimizer: torch.optim.Adam | None = None
    slow: EmbeddingCritic | None = None
    real_keys: KeyQueue | None = None
    fake_keys: KeyQueue | None = None

    @classmethod
    def make_modules(cls, config: MoCoConfig, space: Space) -> dict[str, nn.Module]:
        """Make the modules. Their weights are drawn separately, so leaving one out in an ablation does not change the
        others.
        """
        motion = drawn(config, "motion", make_lstm, config, space)
        generator = nn.ModuleDict({"motion": motion})
        if config.information_weight > 0:
            cells, width = config.form == "code", motion.space.code_width
            generator["guess"] = drawn(config, "guess", NoiseGuess, config.memory, width, cells)
        return {"motion": motion, "generator": generator, **cls._critics(config)}

    @classmethod
    def make_optimizer(cls, name: str, module: nn.Module, config: MoCoConfig) -> torch.optim.Adam:
        special = {"beta1": IMAGE_BETA1, "eps": IMAGE_EPS} if isinstance(module, EmbeddingCritic) else {}
        return make_adam(module, config, **special)

    @staticmethod
    def _critics(config: MoCoConfig) -> dict[str, nn.Module]:
        made: dict[str, nn.Module] = {}
        pairs = config.mode == "in-domain"
        if config.judges_clips:
            made["video_critic"] = drawn(config, "video", PatchCritic, 3, 6 if pairs else 3, config.video_widths)
        if config.judges_frames:
            if pairs:
                made["image_critic"] = drawn(config, "image", PatchCritic, 2, 6, config.image_widths)
                return made
            critic = drawn(config, "image", EmbeddingCritic, config.image_widths, config.embedding)
            made["image_critic"] = critic
            if config.has_queue:
                made["slow"] = copy.deepcopy(critic).requires_grad_(False).eval()
                for name in ("real_keys", "fake_keys"):
                    made[name] = drawn(config, name, KeyQueue, config.queue, config.embedding)
        return made
