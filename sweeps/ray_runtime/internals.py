"""The one place that uses what Ray does not publish; Ray Train's classes are in `train_internals`.

Each function says what it uses, why, and which public way it takes where Ray is not the version that was tested.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from svgan.errors import one_line
from sweeps.storage.tested_versions import may_use_internals

log = logging.getLogger(__name__)

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # in the environment of a Ray Job's entrypoint
AUTOSCALER_REPORT, AUTOSCALER_ERROR = "__autoscaling_status", "__autoscaling_error"  # keys in the head's store
STATUS_SECONDS = 60.0  # for `ray status`, which answers in some seconds on a busy head
IDLE_SECONDS = 5.0  # between a group's creation and its first actor's, many times over
MOST_LISTED = 10_000  # the most that the State API lists at once
NO_ACTOR = b"\xff" * 12  # how the id of an actor begins where there is none; the job's id follows


class NodeGroup(NamedTuple):
    """most: -1 is any number."""

    name: str
    resources: dict[str, float]
    most: int


def usable() -> bool:
    return may_use_internals("ray")


def inside_a_job() -> bool:
    """Whether this process is the entrypoint of a Ray Job that somebody else submitted, as KubeRay's RayJob does.

    Internal: the variable by which Ray hands the job's settings on. Public way: False. A job that svgan submits, and
    cluster/kuberay.yaml, set a variable of their own (`job_submission.JOB`).
    """
    return JOB_CONFIG in os.environ and usable()


def own_processes() -> list[subprocess.Popen[bytes]]:
    """The processes of the Ray that this process has started; empty if it has joined a cluster.

    Internal: the node that `ray.init` keeps. Public way: none of them, so that `ray.shutdown` is slow where SIGTERM is
    blocked (`session.shut_down`).
    """
    if not usable():
        return []
    import ray._private.worker as ray_worker

    node = ray_worker._global_node
    return [started.process for kind in node.all_processes.values() for started in kind] if node else []


def node_groups() -> list[NodeGroup]:
    """The groups of nodes that the cluster's autoscaler may add, where it reports them, as hosted clusters do.

    Internal: the cluster's configuration in the head's control store. Public way: none of them, so that only nodes that
    are there count, or those in the file that `ray up` leaves on the head.
    """
    if not usable():
        return []
    from ray._private.state import state

    config = state.get_cluster_config()
    groups = config.node_group_configs if config is not None else ()
    return [NodeGroup(group.name, dict(group.resources), group.max_count) for group in groups]


def autoscaler_status() -> str:
    """What `ray status --verbose` prints of the cluster that this process has joined; '' if Ray does not answer.

    Internal: the function behind the command, a few milliseconds. Public way: the command, seconds of CPU.
    """
    import ray

    address = ray.get_runtime_context().gcs_address
    if not usable():
        command = [str(Path(sys.executable).with_name("ray")), "status", "--verbose", "--address", address]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(command, capture_output=True, text=True, timeout=STATUS_SECONDS, check=False)
            if done.returncode == 0:
                return done.stdout
            log.warning("`ray status` failed: %s", one_line(done.stderr))
        return ""
    from ray.autoscaler._private.commands import debug_status
    from ray.experimental.internal_kv import _internal_kv_get

    try:
        report, error = _internal_kv_get(AUTOSCALER_REPORT), _internal_kv_get(AUTOSCALER_ERROR)
        return debug_status(report, error, verbose=True, address=address)
    except Exception as trouble:  # a report that cannot be had or read is no reason to end what asks for it
        log.warning("the autoscaler's report cannot be had: %r", trouble)
        return ""


@contextlib.contextmanager
def raylet_errors_to(write: Callable[[str], None]) -> Iterator[None]:
    """Hand the raylet's errors, and whatever else Ray would print in the driver, to `write` while the block runs.

    Internal: the function that prints them, whatever `ray.init(log_to_driver=False)` says. Public way: they are
    printed.
    """
    if not usable():
        yield
        return
    import ray._private.worker as ray_worker

    def hand_on(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        write(f"{data.get('pid')}: {' '.join(map(str, data.get('lines', ())))}")

    printed = ray_worker.print_to_stdstream
    ray_worker.print_to_stdstream = hand_on
    try:
        yield
    finally:
        ray_worker.print_to_stdstream = printed


def leaked_groups(job: str, idle: dict[str, float]) -> list[str]:
    """Placement groups of this job whose creator, a Train controller, is dead: nobody will use or remove them.

    Ray Train makes its group outside the trial's own tree, and Ray removes it only when the whole job has ended.
    idle: kept by the caller from look to look; the public way notes in it since when each group has been idle. Raises
    ConnectionError if the public way cannot see the groups.

    Internal: the table in the head's control store, of which `ray.util.placement_group_table` leaves out the creator.
    It takes a millisecond and needs no dashboard. Public way: groups of workers in which no actor has lived for
    IDLE_SECONDS, by the State API, which needs the dashboard.
    """
    if not usable():
        return _idle_groups(job, idle)
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


def _idle_groups(job: str, idle: dict[str, float]) -> list[str]:
    import ray
    from ray.util import state
    from ray.util.state.exception import RayStateApiException

    address, now = ray.get_runtime_context().gcs_address, time.monotonic()
    try:
        with _ray_address(address):
            of_job = [("creator_job_id", "=", job), ("state", "=", "CREATED")]
            groups = state.list_placement_groups(address, filters=of_job, limit=MOST_LISTED, detail=True)  # type: ignore[arg-type]
            living = [("job_id", "=", job), ("state", "!=", "DEAD")]
            actors = state.list_actors(address, filters=living, limit=MOST_LISTED, detail=True)  # type: ignore[arg-type]
    except (RayStateApiException, ConnectionError, ValueError) as error:
        raise ConnectionError(one_line(error)) from error
    used = {actor.placement_group_id for actor in actors}
    free = {group.placement_group_id for group in groups if of_workers(group.bundles or ())} - used
    for group in set(idle) - free:
        del idle[group]
    return [group for group in free if now - idle.setdefault(group, now) > IDLE_SECONDS]


@contextlib.contextmanager
def _ray_address(address: str) -> Iterator[None]:
    """RAY_ADDRESS as the State API must read it: it overrides the address that its functions are given.

    With RAY_ADDRESS=local, which asks for a Ray of one's own, the State API looks for Rays in the process table and
    raises ConnectionError where it finds two (docs/traps.md).
    """
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ["RAY_ADDRESS"]
        else:
            os.environ["RAY_ADDRESS"] = before


def of_workers(bundles: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a group's bundles are places of workers, and not of Tune's trials, which ask for no CPU."""
    return all((bundle.get("unit_resources") or {}).get("CPU") for bundle in bundles)


def keep_from_trials(names: Collection[str]) -> None:
    """Keep these variables out of the runtime environment that Tune gives its actors, which Ray writes into logs.

    Internal: Tune's set of variables to copy, which nothing public changes. It holds secrets, so that it is changed at
    every version that has it.
    """
    from ray.tune.execution import class_cache

    getattr(class_cache, "ENV_VARS_TO_PROPAGATE", set()).difference_update(names)


def exception_of(error: BaseException) -> tuple[BaseException | None, str]:
    """The exception that a Train worker raised, with its traceback as text.

    Internal: the attributes of the exception that Ray wraps around it. Public way: no exception, but the text of the
    wrapping one, which is that traceback.
    """
    if usable():
        return getattr(error, "_base_exc", error), getattr(error, "_traceback_str", "")
    text = str(error)
    return (None, text) if text.startswith("Traceback") else (error, "")
