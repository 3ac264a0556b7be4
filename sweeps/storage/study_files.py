"""Where the parts of a study lie in its storage. `svgan.io.storage` writes, lists, reads and removes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from svgan.io.storage import join

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan


def place(plan: Plan, *parts: str) -> str:
    """The address of a part of this study in its storage."""
    return join(plan.output.storage, plan.name, *parts)


def training(plan: Plan, number: int, *parts: str) -> str:
    """The address of a trial's Ray Train folder, which holds its checkpoints, or of a part of it."""
    return join(plan.output.storage, plan.trial_name(number), *parts)
