"""How a trial ended, read from its last result: the one place that knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Ending = Literal["finished", "pruned", "failed", "halted"]

FINISHED, FAILED, HALTED = "finished", "failed", "halted"
WHY = "why"  # of a halted trial that was not asked to stop


def how_it_ended(result: Mapping[str, Any] | None, error: bool = False) -> Ending:
    """finished: whole, scored. failed: for a reason of its own, which it gave under 'failed'. halted: to go on at
    --resume, stopped cleanly, or with an error, as when its process died too often. pruned: none of these, so a
    scheduler stopped it."""
    result = result or {}
    if error:
        return "halted"
    if FAILED in result:
        return "failed"
    if result.get(FINISHED):
        return "finished"
    return "halted" if result.get(HALTED) else "pruned"
