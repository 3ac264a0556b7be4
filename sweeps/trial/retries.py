"""When workers that ended are started again, and when their trial has failed: one rule, which knows nothing of Ray.

Ray Train's own retries are off (`trainer.trainer`), because its count includes failures before a new checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

# own: the workers failed by themselves. node: a worker's node was lost. notice: the workers kept their state and left,
# because they were told to. start: they could not be started. room: there was no place for them.
Cause = Literal["own", "node", "notice", "start", "room"]

WORKER_RETRIES = 2  # without a new checkpoint between them; a cause that comes three times stays
START_RETRIES = 1  # a cause that comes twice stays


@dataclass(frozen=True)
class Charges:
    """The failures that are charged to a trial since its last new checkpoint."""

    own: int = 0
    starts: int = 0


def charge(before: Charges, cause: Cause, progress: bool) -> tuple[Charges, bool]:
    """The charges after one more end of the workers, and whether they are started again.

    progress: whether a checkpoint was kept since the last end; then earlier failures no longer count. A lost node, a
    notice and a lack of room are never charged.
    """
    charges = Charges() if progress else before
    if cause == "own":
        charges = replace(charges, own=charges.own + 1)
    elif cause == "start":
        charges = replace(charges, starts=charges.starts + 1)
    return charges, charges.own <= WORKER_RETRIES and charges.starts <= START_RETRIES
