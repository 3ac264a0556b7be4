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
LOOK_SECONDS = 0.5  # a look takes 1 ms; the next trial waits for the place
UNSEEN_SECONDS = 60.0  # as long as Ray Train waits for a place before a trial says that it has none


class LeakedGroupRemover(Callback):
    """Removes leaked placement groups every `every` seconds, so that a stopped trial's CPUs and GPUs are free again."""

    def __init__(self, every: float = LOOK_SECONDS) -> None:
        self.every, self.next_look = every if internals.usable() else 4 * every, 0.0
        self.removed: list[str] = []
        self.idle: dict[str, float] = {}
        self.unseen_since: float | None = None
        self.warned = False

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if time.monotonic() >= self.next_look:
            self.look()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self.look()

    def look(self) -> None:
        import ray

        self.next_look = time.monotonic() + self.every
        try:
            leaked = internals.leaked_groups(ray.get_runtime_context().get_job_id(), self.idle)
        except ConnectionError as error:
            self._unseen(error)
            return
        self.unseen_since, self.warned = None, False
        for group in leaked:
            if group not in self.removed:
                remove_group(group)
                self.removed.append(group)

    def _unseen(self, error: ConnectionError) -> None:
        """Say once, after UNSEEN_SECONDS, that places may stay taken: trials would wait for them without a cause."""
        now = time.monotonic()
        self.unseen_since = now if self.unseen_since is None else self.unseen_since
        log.warning("placement groups cannot be seen: %s", error)
        if not self.warned and now - self.unseen_since >= UNSEEN_SECONDS:
            self.warned = True
            print(
                f"Ray's dashboard does not say which places are free ({error}); places of stopped trials may stay "
                "taken: if a trial waits for one, stop the study and go on with --resume",
                flush=True,
            )

    def __getstate__(self) -> dict[str, Any]:
        return {}


def remove_group(group: str) -> None:
    import ray
    from ray.util.placement_group import PlacementGroup

    log.info("reaper: removing leaked placement group %s", group)
    ray.util.remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))
