"""Remove the placement groups that dead trials leave behind, so that their CPUs and GPUs are free again.

The trap behind it is in docs/traps.md with the test that holds it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from sweeps.ray_runtime import internals

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

log = logging.getLogger(__name__)


class LeakedGroupRemover(Callback):
    """Removes leaked placement groups every `every` seconds, so that a stopped trial's CPUs and GPUs are free again."""

    def __init__(self, every: float = 0.5) -> None:
        self.every, self.next_look = every if internals.usable() else 4 * every, 0.0
        self.removed: list[str] = []
        self.idle: dict[str, float] = {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if time.monotonic() >= self.next_look:
            self.look()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self.look()

    def look(self) -> None:
        import ray

        for group in internals.leaked_groups(ray.get_runtime_context().get_job_id(), self.idle):
            if group not in self.removed:
                remove_group(group)
                self.removed.append(group)
        self.next_look = time.monotonic() + self.every

    def __getstate__(self) -> dict[str, Any]:
        return {}


def remove_group(group: str) -> None:
    import ray
    from ray.util.placement_group import PlacementGroup

    log.info("reaper: removing leaked placement group %s", group)
    ray.util.remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))
