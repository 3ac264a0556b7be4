"""The Ray that a study runs on: a cluster that is there, or one of its own on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError, one_line
from sweeps import arrivals, room

if TYPE_CHECKING:
    from sweeps.plan import Plan


AWS_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")


def keep_secrets() -> None:
    """Tune copies the driver's AWS keys into its actors' runtime environment, which Ray puts into command lines and
    logs. Nodes have their own, by environment or role."""
    from ray.tune.execution import class_cache

    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(AWS_SECRETS)


@contextlib.contextmanager
def cluster_joined() -> Iterator[None]:
    """Connect to the cluster if one is running (RAY_ADDRESS, `ray start`), and wait for the hosts of its list; leave it
    again whatever happens."""
    address = None if room.joined() else room.cluster_address()
    if address is None:
        yield
        return
    import ray

    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except ConnectionError as error:
        raise UserError(f"RAY_ADDRESS {address}: no cluster answers ({error}); unset it for a local run") from None
    try:
        arrivals.wait_for_hosts(arrivals.listed())
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def ray_started(plan: Plan) -> Iterator[bool]:
    """A local Ray for this sweep alone (True), unless a cluster was joined; shut down whatever happens."""
    import ray

    if room.joined():
        yield False
        return
    there = room.machine()
    start(
        num_cpus=int(there.total("CPU")),
        num_gpus=int(there.total("GPU")),
        resources={room.SLOT: plan.concurrency},
        object_store_memory=256 * 2**20,
    )
    try:
        yield True
    finally:
        ray.shutdown()


@contextlib.contextmanager
def workers_here() -> Iterator[None]:
    """Unless a cluster was joined, a Ray on this machine's cores and GPUs, shut down whatever happens."""
    import ray

    if ray.is_initialized():
        yield
        return
    there = room.machine()
    sizes = {"num_cpus": int(there.total("CPU")), "num_gpus": int(there.total("GPU"))}
    start(**sizes, object_store_memory=512 * 2**20)
    try:
        yield
    finally:
        ray.shutdown()


def start(attempts: int = 3, **sizes: Any) -> None:
    """Start a Ray on this machine. Ray gives its own processes 30 s, which a busy machine may need twice.

    Raises UserError where it does not come up.
    """
    import ray
    from ray._common.utils import get_default_ray_temp_dir

    for left in reversed(range(attempts)):
        try:
            ray.init(address="local", include_dashboard=False, log_to_driver=False, configure_logging=False, **sizes)
            return
        except Exception as error:  # Ray raises no narrower one
            ray.shutdown()
            if not left:
                raise UserError(
                    f"Ray does not start on this machine ({one_line(error)}); see "
                    f"{get_default_ray_temp_dir()}/session_latest/logs, and whether other work leaves it any time"
                ) from error
