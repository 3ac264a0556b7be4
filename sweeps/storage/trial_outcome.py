"""A trial's outcome, read from its last result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Ending = Literal["finished", "pruned", "failed", "halted"]

# The keys of a result. REPORTS: (step, value) of every report so far; no dictionary, because Tune flattens those.
STEP, REPORTS = "step", "reports"
FINISHED, FAILED, HALTED = "finished", "failed", "halted"
LEFT = "left"  # of workers that kept the state at a notice; their trial goes on with others
WHY = "why"  # of a halted trial that was not asked to stop


def how_it_ended(result: Mapping[str, Any] | None, error: bool = False) -> Ending:
    """The outcome of a trial.

    - finished: trained to the end, and scored.
    - failed: for a reason of its own, which stands under 'failed'.
    - halted: stopped cleanly, or its process died too often; `--resume` continues it.
    - pruned: none of these, so the scheduler stopped it.
    """
    result = result or {}
    if error:
        return "halted"
    if FAILED in result:
        return "failed"
    if result.get(FINISHED):
        return "finished"
    return "halted" if result.get(HALTED) else "pruned"
