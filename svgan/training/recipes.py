"""The recipes of every registered system."""

from __future__ import annotations

from typing import Any

from svgan.errors import UserError
from svgan.training import registry
from svgan.training.config import RunConfig


def names() -> list[str]:
    """The names of all recipes, system by system."""
    return [name for system in registry.systems() for name in system.recipes]


def make(name: str, **overrides: Any) -> RunConfig:
    """Make the configuration of recipe `name` with overrides. Raises UserError for an unknown recipe or field."""
    system = registry.find(lambda one: name in one.recipes)
    if system is None:
        raise UserError(f"recipe: {name!r} is unknown; {registry.one_of(names())}")
    return system.recipes[name](**overrides)
