"""What keeps a sweep from hanging: checks before it starts, a reaper of leaked resources, a limit on waiting.

Each trap behind these is in docs/traps.md with the test that holds it.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from ray.tune import Callback

from svgan.errors import UserError
from sweeps.ends import FAILED, how_it_ended
from sweeps.plan import Plan, is_remote

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

log = logging.getLogger(__name__)

SLOT, HERE = "trial_slot", "this machine"
BASE_GB, TRIAL_GB, WORKER_GB = 2.0, 1.1, 1.0


def machine() -> dict[str, float]:
    """What this machine has for trials: CPU (those this process may use), GPU, memory in GB that is free."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"CPU": cpus, "GPU": torch.cuda.device_count(), "GB": _free_gb()}


def cluster_address() -> str | None:
    """The cluster to join: RAY_ADDRESS, else what `ray start` left running on this host; None for a local Ray."""
    import socket

    from ray._private.utils import read_ray_address

    if asked := os.environ.get("RAY_ADDRESS"):
        return None if asked == "local" else asked
    left = read_ray_address()
    if not left:
        return None
    host, _, port = left.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return None
    return left


def available() -> tuple[dict[str, float], str]:
    """What there is for trials, and what to call the place: the joined cluster, else this machine."""
    import ray

    if ray.is_initialized():
        return dict(ray.cluster_resources()), "the cluster"
    return machine(), HERE


def gpu_share(there: dict[str, float], workers: int, concurrency: int | None) -> float:
    """GPUs per worker where none were asked for: a whole one, or a share if the workers asked for outnumber them."""
    gpus = there.get("GPU", 0)
    wanted = workers * (concurrency or 1)
    if not gpus:
        return 0.0
    return 1.0 if wanted <= gpus else max(0.01, int(100 * gpus / wanted) / 100)


def _free_gb() -> float:
    """Free memory, the container's limit respected."""
    free = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, int(text) - int(used.read_text()))
    return free / 2**30


def fitting_concurrency(there: dict[str, float], *, workers: int, cpus: float, gpus: float, trials: int) -> int:
    """How many trials run at once without any waiting for another's CPUs, GPUs or memory; at least 1."""
    counts = [there["CPU"] // (workers * cpus), trials]
    if gpus:
        counts.append(there["GPU"] // (workers * gpus))
    if SLOT in there:
        counts.append(there[SLOT])
    if "GB" in there:
        counts.append((there["GB"] - BASE_GB) // (TRIAL_GB + WORKER_GB * workers))
    return max(1, int(min(counts)))


def check_resources(plan: Plan, there: dict[str, float], where: str) -> None:
    """Refuse what could never be placed: Ray itself would wait for ever without a word."""
    for kind, each, flag in (
        ("CPU", plan.cpus_per_worker, "--workers"),
        ("GPU", plan.gpus_per_worker, "--gpus-per-worker"),
    ):
        trial, has = plan.workers * each, there.get(kind, 0)
        if trial > has:
            raise UserError(
                f"{flag}: a trial asks {plan.workers} x {each:g} = {trial:g} {kind}, {where} has {has:g}; ask for less"
            )
        if trial * plan.concurrency > has:
            raise UserError(
                f"--concurrency {plan.concurrency}: so many trials ask {trial * plan.concurrency:g} {kind}, {where} "
                f"has {has:g}; at most {int(has // trial)} fit at a time"
            )
    if where != HERE and there.get(SLOT, 0) < plan.concurrency:
        raise UserError(
            f"--concurrency {plan.concurrency}: {where} offers {there.get(SLOT, 0):g} {SLOT}; lower it, or start the "
            f"head with --resources '{{\"{SLOT}\": {plan.concurrency}}}'"
        )
    need = BASE_GB + TRIAL_GB + WORKER_GB * plan.workers
    if there.get("GB", need) < 0.6 * need:
        raise UserError(f"memory: {there['GB']:.1f} GB free, one trial needs about {need:.1f}; close something first")


def check_storage(location: str) -> None:
    """Write and remove a small file where the checkpoints will go."""
    import fsspec

    probe = f"{location.rstrip('/')}/.probe-{uuid.uuid4().hex}"
    try:
        files, path = fsspec.core.url_to_fs(probe)
        if not is_remote(location):
            files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        with files.open(path, "wb") as out:
            out.write(b"svgan")
        files.rm_file(path)
    except Exception as error:  # every file system has errors of its own
        raise UserError(
            f"--storage {location}: cannot be written ({type(error).__name__}: {str(error)[:150]}); choose another"
        ) from None


def leaked_groups(address: str, job: str) -> list[str]:
    """Placement groups of this job that hold resources though no live actor is in them; trial slots left out.

    Ray Train makes its group outside the trial's own tree, and its cleaner misses several ways to die.
    """
    from ray.util.state import list_actors, list_placement_groups

    groups = list_placement_groups(address=address, detail=True, limit=10_000, filters=[("state", "=", "CREATED")])
    actors = list_actors(address=address, detail=True, limit=10_000, filters=[("state", "!=", "DEAD")])
    held = {actor.placement_group_id for actor in actors}
    return [
        group.placement_group_id
        for group in groups
        if group.creator_job_id == job and group.placement_group_id not in held and not _is_slot(group.bundles)
    ]


def _is_slot(bundles: list[dict[str, Any]] | None) -> bool:
    return any(SLOT in (bundle.get("unit_resources") or {}) for bundle in bundles or [])


class Reaper(Callback):
    """Removes leaked placement groups: looks after each end of a trial and every `every` seconds.

    A group is removed when two looks at least `grace` seconds apart find it without an actor, since a young one has
    none yet.
    """

    def __init__(self, every: float = 30.0, grace: float = 5.0) -> None:
        self.every, self.grace = every, grace
        self.next_look = time.monotonic() + every
        self.suspects: dict[str, float] = {}
        self.removed: list[str] = []

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.next_look = min(self.next_look, time.monotonic() + self.grace)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.next_look = min(self.next_look, time.monotonic() + self.grace)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if time.monotonic() >= self.next_look:
            self.look()

    def look(self) -> None:
        """One look; schedules the next, sooner while something is suspected."""
        import ray
        from ray.util.state.exception import RayStateApiException

        context, now = ray.get_runtime_context(), time.monotonic()
        try:
            found = leaked_groups(context.gcs_address, context.get_job_id())
        except (RayStateApiException, ConnectionError) as error:
            log.warning("reaper: Ray's state cannot be read (%s); looking again later", error)
            found = list(self.suspects)
        else:
            self.suspects = {group: self.suspects.get(group, now) for group in found}
        for group, since in list(self.suspects.items()):
            if now - since >= self.grace and group in found:
                remove_group(group)
                self.removed.append(group)
                del self.suspects[group]
        self.next_look = time.monotonic() + (self.grace if self.suspects else self.every)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def remove_group(group: str) -> None:
    import ray
    from ray.util.placement_group import PlacementGroup

    log.warning("reaper: removing leaked placement group %s", group)
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
