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

GROUP = "svgan.systems"  # of entry points

Iteration: TypeAlias = "Callable[[Any, Any, Process], dict[str, Tensor]]"


class Source(Protocol):
    """What a run learns from, on its device. `space` and `windows` are of codes, for the judges, whatever that is."""

    space: Space
    window: int

    def windows(self, n: int, seed: int) -> Tensor:
        """n windows of real codes [n, T, K], in the space's units."""
        ...


@dataclass(frozen=True, kw_only=True)
class System:
    """All that is asked of a system by whoever trains, keeps, samples or judges it."""

    config: type[RunConfig]
    """Its configuration. `config.system` is the system's name."""

    state: type[State]
    """All that changes while it trains."""

    recipes: Mapping[str, Callable[..., RunConfig]]
    """Its named runs: functions of overrides."""

    motion: Callable[[Any, Space], Motion]
    """Makes an untrained generator for codes in a space, which a checkpoint's `ema.` fills."""

    space: Callable[[Any, Material], Space]
    """Fits the space of its codes to the material."""

    source: Callable[[Any, Material, Space, torch.device], Source]
    """Makes what a configuration learns from. Raises UserError for material that it cannot be made of."""

    iterate: Iteration
    """Trains everything once, in place. Returns figures as 0-d tensors, means over ranks. What it does about numbers
    that are not finite is told at `svgan.training.optimize.descend`."""

    check: Callable[[Any, Material], None] = lambda config, material: None
    """Raises UserError, in little time, for material that a configuration cannot learn from."""

    @property
    def name(self) -> str:
        return self.config.system


_systems: dict[str, System] = {}
_entries: list[str] = []  # registered, not imported yet


def register(system: System | str) -> None:
    """Make a system known; as 'module:NAME' it is imported when a system is first asked for. Raises UserError for one
    that lacks a part, and for a name that is taken."""
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
    """Every system: those registered, in that order, then those of installed packages."""
    _import_entries()
    for entry in importlib.metadata.entry_points(group=GROUP):
        register(entry.load())
    return list(_systems.values())


def find(wanted: Callable[[System], bool]) -> System | None:
    """The first system of which that is true. Installed packages are searched if no registered one will do."""
    _import_entries()
    return next(filter(wanted, _systems.values()), None) or next(filter(wanted, systems()), None)


def get(name: str) -> System:
    """The system of that name. Raises UserError where there is none."""
    found = find(lambda system: system.name == name)
    if found is None:
        raise UserError(f"system: {name!r} is unknown; {one_of(system.name for system in systems())}")
    return found


def one_of(names: Iterable[str]) -> str:
    """The remedy of a name that is unknown."""
    known = ", ".join(names)
    return f"one of {known}" if known else "no system is registered, so import svgan.systems first"


def config_class(name: str | None) -> type[RunConfig]:
    """The configuration of the system that a record names; None: of the one whose records name none."""
    if name is not None:
        return get(name).config
    found = find(lambda system: system.config.quiet.get("system") == system.name)
    if found is None:
        raise UserError(f"system: none is named; {one_of(system.name for system in systems())}")
    return found.config


def read_config(values: Mapping[str, Any]) -> RunConfig:
    """The configuration that `RunConfig.to_json` wrote, of whichever system. Raises UserError."""
    return config_class(values.get("system")).from_json(values)


def build_state(
    config: RunConfig, space: Space, meta: Mapping[str, Any] | None = None, device: torch.device | str = "cpu"
) -> State:
    """Step 0 of the configuration's system: weights drawn from config.seed alone, the same on every rank and device."""
    return get(config.system).state.build(config, space, meta, device)


def make_source(config: RunConfig, material: Material, device: torch.device | str) -> Source:
    """What `config` learns from. Raises UserError for material that does not suit it."""
    import torch

    check_material(config, material)
    system = get(config.system)
    return system.source(config, material, system.space(config, material), torch.device(device))


def check_material(config: RunConfig, material: Material) -> None:
    """Raises UserError for material that the system refuses, for recorded frames where codes alone are learned from,
    and for another domain's pictures where those are not asked for or their W is of another width."""
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
    """One iteration of the state's own system."""
    return get(state.config.system).iterate(state, source, process)


def _import_entries() -> None:
    while _entries:
        module, _, name = _entries[0].partition(":")
        register(getattr(importlib.import_module(module), name))
        _entries.pop(0)
