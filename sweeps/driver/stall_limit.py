"""What keeps a sweep from hanging: a reaper of leaked resources, and a limit on waiting.

Each trap behind these is in docs/traps.md with the test that holds it.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from svgan.errors import UserError
from sweeps.ray_runtime.resources import SLOT
from sweeps.storage.trial_outcome import FAILED, how_it_ended

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


class Patience(Callback):
    """Ends a sweep that cannot succeed: `failures` in a row before any trial finished, or `limit` seconds of nothing
    (an hour where no node can come, else a day).

    After `patience` seconds without a result, start or end it says once what is being waited for. Any of these
    raises UserError out of `Tuner.fit`, so that a sweep always ends with a reason.
    """

    def __init__(self, patience: float = 300.0, limit: float = 3600.0, failures: int = 3) -> None:
        self.patience, self.limit, self.failures = patience, limit, failures
        self.last, self.warned = time.monotonic(), False
        self.failed, self.finished = 0, 0
        self.reason = ""

    def _event(self) -> None:
        self.last, self.warned = time.monotonic(), False

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._event()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        self._event()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._event()
        if how_it_ended(trial.last_result) == "failed":
            self._failed(trial)
        else:
            self.finished += 1

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._event()
        self._failed(trial)

    def _failed(self, trial: Trial) -> None:
        self.failed += 1
        self.reason = self.reason or failure(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self.failed >= self.failures and not self.finished:
            raise UserError(f"the first {self.failed} trials all failed; the first one said: {self.reason}")
        idle = time.monotonic() - self.last
        if idle > self.limit:
            raise UserError(f"nothing happened for {idle / 60:.0f} min, so ended: {waiting_for(trials)}; use --resume")
        if idle > self.patience and not self.warned:
            self.warned = True
            log.warning("nothing happened for %.0f s: %s", idle, waiting_for(trials))
            print(f"still waiting after {idle / 60:.0f} min: {waiting_for(trials)}", flush=True)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def waiting_for(trials: list[Trial]) -> str:
    """One line: the trials by state, and the free against the total resources."""
    import ray

    states: dict[str, list[str]] = {}
    for trial in trials:
        if trial.status in ("RUNNING", "PENDING"):
            states.setdefault(trial.status.lower(), []).append(str(trial.config.get("number", trial.trial_id)))
    free, total = ray.available_resources(), ray.cluster_resources()
    room = ", ".join(
        f"{free.get(kind, 0):g} of {total[kind]:g} {kind}" for kind in ("CPU", "GPU", SLOT) if kind in total
    )
    told = "; ".join(f"trials {', '.join(numbers)} {state}" for state, numbers in sorted(states.items()))
    return f"{told or 'no trial is out'}; free: {room}"


def failure(trial: Trial) -> str:
    """A failed trial's own last word, without Ray's frames around it.

    Its result's, or the last line of the driver's own copy of the error file: `trial.get_error()` reads the storage,
    where it comes later.
    """
    if FAILED in (trial.last_result or {}):
        return str(trial.last_result[FAILED])
    path = Path(trial.error_file or "")
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()] if path.is_file() else []
    return (lines or ["no reason given"])[-1][:500]
