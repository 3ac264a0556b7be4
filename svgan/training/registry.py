"""Every system that can be trained: its configuration, its state, what it learns from, and its iteration.

A new one is a row here, a recipe (`svgan.training.recipes`), and files of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.clips import ClipSource
from svgan.latents.manifest import Latents
from svgan.latents.spaces import Space, make_space, picture_space
from svgan.motion import Motion, make_motion
from svgan.motion.acyclic import check_anchors
from svgan.systems.mocogan_hd import step as mocogan_hd_step
from svgan.systems.mocogan_hd.basis import w_space
from svgan.systems.mocogan_hd.config import MoCoConfig
from svgan.systems.mocogan_hd.source import FrameSource
from svgan.systems.mocogan_hd.state import MoCoState, make_lstm
from svgan.systems.stylegan_v import step as stylegan_v_step
from svgan.systems.stylegan_v.config import StyleGANVConfig
from svgan.systems.stylegan_v.source import SparseClips
from svgan.systems.stylegan_v.state import StyleGANVState, make_generator
from svgan.systems.stylevideogan import fast, step
from svgan.systems.stylevideogan.config import CodesConfig
from svgan.systems.stylevideogan.state import CodesState
from svgan.torch_utils.distributed import Process
from svgan.training.config import RunConfig
from svgan.training.data import Material
from svgan.training.state import State

FIRST = "codes"  # whose name is in no record, for there was no other


class Source(Protocol):
    """What a run learns from, on its device. `space` and `windows` are of codes, for the judges, whatever that is."""

    space: Space
    window: int

    def windows(self, n: int, seed: int) -> Tensor:
        """n windows of real codes [n, T, K], in the space's units."""
        ...


Iteration = Callable[[State, Any, Process], dict[str, Tensor]]


@dataclass(frozen=True)
class System:
    """config, state: its classes. motion: an untrained generator for codes in a space, which a checkpoint's `ema.`
    fills. space: of its codes. source: what a configuration learns from, with that space; of frames, by `originals` the
    recorded ones. iterate: train everything once, in place; returns figures as 0-d tensors, means over ranks; of
    numbers that are none, `svgan.systems.stylevideogan.step.descend` tells.
    """

    config: type[RunConfig]
    state: type[State]
    motion: Callable[[Any, Space], Motion]
    space: Callable[[Any, Domain, Latents], Space]
    source: Callable[..., Source]
    iterate: Callable[[Any, Any, Process], dict[str, Tensor]]


def codes_motion(config: CodesConfig, space: Space) -> Motion:
    return make_motion(config, space.width)


def codes_space(config: CodesConfig, domain: Domain, latents: Latents) -> Space:
    return make_space(config.space, latents, config.components)


def codes_source(
    config: CodesConfig, domain: Domain, latents: Latents, space: Space, device: torch.device
) -> ClipSource:
    return ClipSource(latents, config.window, space, device)


CODES_ITERATIONS = {"plain": step.iterate, "fast": fast.iterate, "graph": fast.cuda_graph.iterate}


def codes_iterate(state: CodesState, clips: step.Clips, process: Process) -> dict[str, Tensor]:
    """`svgan.systems.stylevideogan.step.iterate`, or what state.config.iteration names instead."""
    return CODES_ITERATIONS[state.config.iteration](state, clips, process)


def mocogan_hd_space(config: MoCoConfig, domain: Domain, latents: Latents) -> Space:
    config.check_suits(domain.config.w_dim)
    return w_space(domain.generator, config.mapping_samples, config.seed)


def stylegan_v_space(config: StyleGANVConfig, domain: Domain, latents: Latents) -> Space:
    config.check_suits(domain.config.resolution)
    return picture_space(latents, domain.config.resolution)


SYSTEMS: dict[str, System] = {
    FIRST: System(CodesConfig, CodesState, codes_motion, codes_space, codes_source, codes_iterate),
    MoCoConfig.system: System(MoCoConfig, MoCoState, make_lstm, mocogan_hd_space, FrameSource, mocogan_hd_step.iterate),
    StyleGANVConfig.system: System(
        StyleGANVConfig, StyleGANVState, make_generator, stylegan_v_space, SparseClips, stylegan_v_step.iterate
    ),
}


def of(config: RunConfig) -> System:
    return SYSTEMS[config.system]


def config_class(name: str | None) -> type[RunConfig]:
    """The configuration of the system that a record names; none is named in the first one's."""
    if name is None:
        name = FIRST
    if name not in SYSTEMS:
        raise UserError(f"system: {name!r} is unknown; one of {', '.join(SYSTEMS)}")
    return SYSTEMS[name].config


def source(config: RunConfig, material: Material, device: torch.device | str) -> Source:
    """What `config` learns from. Raises UserError for material that does not suit it."""
    check_suits(config, material)
    system, shown, latents = of(config), material.shown, material.latents
    more: dict[str, Any] = {} if material.recorded is None else {"originals": material.recorded}
    if material.pictures is not None:
        more["footage"] = material.domain
    return system.source(config, shown, latents, system.space(config, shown, latents), torch.device(device), **more)


def check_suits(config: RunConfig, material: Material) -> None:
    """Raises UserError for footage that is too short for motion between anchors, for recorded frames where codes alone
    are learned from, and for another domain's pictures where the system has none, or its W is of another width."""
    if isinstance(config, StyleGANVConfig) or (isinstance(config, CodesConfig) and config.motion == "acyclic"):
        check_anchors(config.distance, material.latents.longest_run, material.latents.uri)
    if material.videos and config.system == FIRST:
        raise UserError(
            f"--footage: {config.recipe} learns from codes alone; leave it out, or take --recipe mocogan-hd or "
            "stylegan-v"
        )
    pictures = material.pictures
    if pictures is None:
        return
    if not isinstance(config, MoCoConfig) or config.mode != "cross-domain":
        raise UserError(
            f"--pictures: {config.recipe} learns from pictures of the footage's own domain; leave it out, or take "
            "--recipe mocogan-hd-cross"
        )
    material.domain.check_embeds()  # by its encoder the judges see the other's pictures
    ours, theirs = pictures.config.w_dim, material.domain.config.w_dim
    if ours != theirs:
        raise UserError(
            f"--pictures {pictures.folder}: its W has {ours} dimensions, that of the footage's domain {theirs}; give "
            "two domains of the same width"
        )


def iterate(state: State, source: Source, process: Process) -> dict[str, Tensor]:
    """One iteration of the state's own system."""
    return of(state.config).iterate(state, source, process)
