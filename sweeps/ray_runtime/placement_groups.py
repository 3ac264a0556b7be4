"""Remove the placement groups that dead trials leave behind, so that their CPUs and GPUs are free again.

The trap behind it is in docs/traps.md with the test that holds it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


log = logging.getLogger(__name__)


NO_ACTOR = b"\xff" * 12  # how the id of an actor begins where there is none; the job's id follows


def leaked_groups(job: str) -> list[str]:
    """Placement groups of this job whose creator, a Train controller, is dead: nobody will use or remove them.

    Ray Train makes its group outside the trial's own tree, and Ray removes it only when the whole job has ended. Read
    from the head's control store itself, in a millisecond: neither dashboard nor State API are needed.
    """
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData as Group  # type: ignore[attr-defined]

    groups = [Group.FromString(raw) for raw in state._connect_and_get_accessor().get_placement_group_table()]
    return [
        group.placement_group_id.hex()
        for group in groups
        if group.creator_actor_dead
        and not group.creator_actor_id.startswith(NO_ACTOR)  # made by the driver: Tune's trial slots
        and group.creator_job_id.hex() == job
        and group.state != Group.REMOVED
    ]


class Reaper(Callback):
    """Removes leaked placement groups every `every` seconds, so that a stopped trial's CPUs and GPUs are free again."""

    def __init__(self, every: float = 0.5) -> None:
        self.every, self.next_look = every, 0.0
        self.removed: list[str] = []

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if time.monotonic() >= self.next_look:
            self.look()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self.look()

    def look(self) -> None:
        import ray

        for group in leaked_groups(ray.get_runtime_context().get_job_id()):
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
    ray.util.remove_placement_group(PlacementGroup(ray._raylet.PlacementGroupID(bytes.fromhex(group))))
