"""The Ray that a study runs on: an existing cluster, or a local one started for the study."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from svgan.errors import UserError, one_line
from sweeps.ray_runtime import fixed_hosts, internals, resources

AWS_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")


def keep_secrets() -> None:
    """Keep AWS keys out of Ray's logs: Tune copies the driver's into the runtime environment of its actors, which Ray
    shows in command lines. Nodes have their own keys, by environment or role.
    """
    internals.keep_from_trials(AWS_SECRETS)


@contextlib.contextmanager
def cluster_joined() -> Iterator[None]:
    """Connect to the cluster if one is running (RAY_ADDRESS, `ray start`), wait for its listed hosts, and disconnect at
    the end.
    """
    address = None if resources.joined() else resources.cluster_address()
    if address is None:
        yield
        return
    import ray

    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except ConnectionError as error:
        raise UserError(f"RAY_ADDRESS {address}: no cluster answers ({error}); unset it for a local run") from None
    try:
        fixed_hosts.wait_for_hosts(fixed_hosts.listed())
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def ray_started(**more: Any) -> Iterator[bool]:
    """A Ray on this machine's cores and GPUs (True), unless a cluster was joined; shut down whatever happens.

    more: what else `ray.init` is told.
    """
    if resources.joined():
        yield False
        return
    import ray

    there = resources.machine()
    start(num_cpus=int(there.total("CPU")), num_gpus=int(there.total("GPU")), **more)
    try:
        yield True
    finally:
        ray.shutdown()


def start(attempts: int = 3, **sizes: Any) -> None:
    """Start Ray on this machine. Ray gives its processes 30 s, so on a busy machine this tries again.

    Raises UserError if Ray does not start.
    """
    import ray

    sizes["include_dashboard"] = not internals.usable()  # the public way to leaked placement groups asks it
    for left in reversed(range(attempts)):
        try:
            ray.init(address="local", log_to_driver=False, configure_logging=False, **sizes)
            return
        except Exception as error:  # Ray raises no narrower one
            ray.shutdown()
            if not left:
                raise UserError(
                    f"Ray does not start on this machine ({one_line(error)}); see "
                    f"{resources.ray_folder()}/session_latest/logs, and whether other work leaves it any time"
                ) from error
