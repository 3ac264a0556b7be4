"""The systems that can be trained, by name. This file names none.

`svgan.systems` registers those of this package, and every entry point imports it. Another package's system is found
where that package, once installed, names it under the entry point group `svgan.systems`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from svgan.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from svgan.latents.spaces import Space
    from svgan.motion import Motion
    from svgan.torch_utils.distributed import Process
    from svgan.training.config import RunConfig
    from svgan.training.data import Material
    from svgan.training.state import State

GROUP = "svgan.systems"  # group of entry points

Iteration: TypeAlias = "Callable[[Any, Any, Process], dict[str, Tensor]]"


class Source(Protocol):
    """The training data of a run, on its device. `space` and `windows` are of codes, for the judges, in every
    system.
    """

    space: Space
    window: int

    def windows(self, n: int, seed: int) -> Tensor:
        """Return n windows of real codes [n, T, K], in the space's units."""
        ...


@dataclass(frozen=True, kw_only=True)
class System:
    """The parts of a system, for training, checkpoints, sampling and evaluation."""

    config: type[RunConfig]
    """The class of its configuration. `config.system` is the system's name."""

    state: type[State]
    """The class of its training state."""

    recipes: Mapping[str, Callable[..., RunConfig]]
    """Its recipes by name: functions of overrides."""

    motion: Callable[[Any, Space], Motion]
    """Make an untrained generator for codes in a space; the `ema.` tensors of a checkpoint fill it."""

    space: Callable[[Any, Material], Space]
    """Fit the space of its codes to the material."""

    source: Callable[[Any, Material, Space, torch.device], Source]
    """Make the training data of a configuration. Raises UserError for material that does not suit it."""

    iterate: Iteration
    """Train all modules once, in place; return metrics as 0-d tensors, means over ranks.

    For non-finite numbers see `svgan.training.optimize.descend`.
    """

    check: Callable[[Any, Material], None] = lambda config, material: None
    """Raise UserError, within a short time, for material that a configuration cannot learn from."""

    @property
    def name(self) -> str:
        return self.config.system


_systems: dict[str, System] = {}
_entries: list[str] = []  # registered, but not imported yet


def register(system: System | str) -> None:
    """Register a system; a text 'module:NAME' is imported when systems are first looked up.

    Raises UserError for a system that lacks a part, and for a name that is taken.
    """
    if isinstance(system, str):
        _entries.append(system)
        return
    if not system.name:
        raise UserError(f"{system.config.__name__}: has no name; define its class variable `system`")
    if missing := sorted(getattr(system.state, "__abstractmethods__", ())):
        raise UserError(f"system {system.name!r}: {system.state.__name__} lacks {missing[0]}; define it")
    if not system.recipes:
        raise UserError(f"system {system.name!r}: has no recipe; give it one")
    if _systems.get(system.name, system) != system:
        raise UserError(f"system {system.name!r}: is registered already; choose another name")
    if taken := {recipe for one in _systems.values() if one != system for recipe in one.recipes} & {*system.recipes}:
        raise UserError(f"system {system.name!r}: another one has a recipe {min(taken)!r}; choose another name")
    _systems[system.name] = system


def systems() -> list[System]:
    """All systems: those registered, in that order, then those of installed packages."""
    _import_entries()
    for entry in importlib.metadata.entry_points(group=GROUP):
        register(entry.load())
    return list(_systems.values())


def find(wanted: Callable[[System], bool]) -> System | None:
    """Return the first system for which `wanted` is true; installed packages are searched if no registered one is."""
    _import_entries()
    return next(filter(wanted, _systems.values()), None) or next(filter(wanted, systems()), None)


def get(name: str) -> System:
    """Return the system of that name. Raises UserError if there is none."""
    found = find(lambda system: system.name == name)
    if found is None:
        raise UserError(f"system: {name!r} is unknown; {one_of(system.name for system in systems())}")
    return found


def one_of(names: Iterable[str]) -> str:
    """The remedy for an unknown name."""
    known = ", ".join(names)
    return f"one of {known}" if known else "no system is registered, so import svgan.systems first"


def config_class(name: str | None) -> type[RunConfig]:
    """The configuration class of the system that a record names.

    None: the class of the system whose records name none.
    """
    if name is not None:
        return get(name).config
    found = find(lambda system: system.config.quiet.get("system") == system.name)
    if found is None:
        raise UserError(f"system: none is named; {one_of(system.name for system in systems())}")
    return found.config


def read_config(values: Mapping[str, Any]) -> RunConfig:
    """Read a configuration of any system that `RunConfig.to_json` wrote. Raises UserError."""
    return config_class(values.get("system")).from_json(values)


def build_state(
    config: RunConfig, space: Space, meta: Mapping[str, Any] | None = None, device: torch.device | str = "cpu"
) -> State:
    """Make the state at step 0. Weights depend on config.seed only, and are the same on every rank and device."""
    return get(config.system).state.build(config, space, meta, device)


def make_source(config: RunConfig, material: Material, device: torch.device | str) -> Source:
    """Make the training data of `config`. Raises UserError for material that does not suit it."""
    import torch

    check_material(config, material)
    system = get(config.system)
    return system.source(config, material, system.space(config, material), torch.device(device))


def check_material(config: RunConfig, material: Material) -> None:
    """Raise UserError if the material does not suit the configuration.

    That is the case if the system refuses it, or if recorded frames are given but the system learns from codes only.
    Another domain's pictures are refused if the system cannot learn from them, or if their W has another width.
    """
    get(config.system).check(config, material)
    if material.videos and not config.learns_from_frames:
        remedy = _recipes_that(lambda made: made.learns_from_frames)
        raise UserError(f"--footage: {config.recipe} learns from codes alone; {remedy}")
    if material.pictures is None:
        return
    if not config.learns_from_pictures:
        remedy = _recipes_that(lambda made: made.learns_from_pictures)
        raise UserError(f"--pictures: {config.recipe} learns from pictures of the footage's own domain; {remedy}")
    material.check_pictures()


def _recipes_that(do: Callable[[RunConfig], bool]) -> str:
    """The remedy: a recipe of each system that has one."""
    able = [[name for name, make in system.recipes.items() if do(make())] for system in systems()]
    names = " or ".join(recipes[0] for recipes in able if recipes)
    return f"leave it out, or take --recipe {names}" if names else "leave it out"


def iterate(state: State, source: Source, process: Process) -> dict[str, Tensor]:
    """Run one iteration of the state's system."""
    return get(state.config.system).iterate(state, source, process)


def _import_entries() -> None:
    while _entries:
        module, _, name = _entries[0].partition(":")
        register(getattr(importlib.import_module(module), name))
        _entries.pop(0)
