"""A system that svgan does not know: clips are straight lines through the space of codes, fitted to the footage's mean
and spread. `made_fourth` installs it as another package would be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from svgan.latents.clips import ClipSource
from svgan.latents.spaces import Space, make_space
from svgan.motion import Motion
from svgan.motion.noise import ALL
from svgan.torch_utils.distributed import Process
from svgan.training.config import RunConfig, whole_number
from svgan.training.data import Material
from svgan.training.draws import draw_noise
from svgan.training.optimize import descend, gradients, move_average
from svgan.training.registry import System
from svgan.training.state import State


@dataclass(frozen=True, kw_only=True)
class LinesConfig(RunConfig):
    """Clips that are lines."""

    system: ClassVar[str] = "lines"

    components: int = 4
    """Principal coordinates of the codes."""

    speed: float = 0.1
    """How fast the first lines move."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("components", self.components, 1)
        self._set_number("speed")


class Lines(Motion):
    """Codes z A + t z B at frame t, of noise z [B, K]."""

    def __init__(self, width: int, speed: float):
        super().__init__()
        self.place = nn.Parameter(torch.randn(width, width))
        self.velocity = nn.Parameter(speed * torch.randn(width, width))

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        return torch.randn(batch, len(self.place), generator=generator, device=generator.device)

    def forward(self, noise: Tensor, times: Tensor) -> Tensor:
        return (noise @ self.place)[:, None] + times[:, None] * (noise @ self.velocity)[:, None]

    def stream(
        self, batch: int, length: int, generator: torch.Generator, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        noise = self.draw(batch, length, generator)[part]
        for times in torch.arange(length, device=noise.device, dtype=noise.dtype).split(chunk):
            yield self(noise, times)


@dataclass(eq=False, kw_only=True)
class LinesState(State):
    trained: ClassVar[tuple[str, ...]] = ("motion",)

    motion: Lines
    motion_optimizer: torch.optim.Adam

    @classmethod
    def make_modules(cls, config: LinesConfig, space: Space) -> dict[str, nn.Module]:
        return {"motion": Lines(space.width, config.speed)}


def iterate(state: LinesState, clips: ClipSource, process: Process) -> dict[str, Tensor]:
    config = state.config
    where = {"rank": process.rank, "world": process.world}
    real = clips.draw(config.batch, seed=config.seed, step=state.step, **where)
    times = torch.arange(config.window, device=real.device, dtype=real.dtype)
    fake = state.motion(draw_noise(state, process, "clips"), times)
    loss = (fake.mean(0) - real.mean(0)).square().mean() + (fake.std(0) - real.std(0)).square().mean()
    figures = descend(state, "motion", gradients(loss, state.motion), {"loss": loss}, (), process)
    move_average(state, config.ema)
    return figures


def lines(**overrides: Any) -> LinesConfig:
    return LinesConfig.of_recipe("lines", {"window": 9, "batch": 8, "steps": 6, "lr": 0.01, "ema": 0.9}, overrides)


def make_motion(config: LinesConfig, space: Space) -> Lines:
    return Lines(space.width, config.speed)


def fit_space(config: LinesConfig, material: Material) -> Space:
    return make_space("pca", material.latents, config.components)


def make_source(config: LinesConfig, material: Material, space: Space, device: torch.device) -> ClipSource:
    return ClipSource(material.latents, config.window, space, device)


SYSTEM = System(
    config=LinesConfig,
    state=LinesState,
    recipes={"lines": lines},
    motion=make_motion,
    space=fit_space,
    source=make_source,
    iterate=iterate,
)
