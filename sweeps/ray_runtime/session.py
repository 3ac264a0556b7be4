"""The Ray that a study runs on: an existing cluster, or a local one started for the study."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from svgan.errors import UserError, one_line
from sweeps.ray_runtime import fixed_hosts, internals, job_submission, resources

AWS_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")


def keep_secrets() -> None:
    """Keep AWS keys out of Ray's logs: Tune copies the driver's into the runtime environment of its actors, which Ray
    shows in command lines. Nodes have their own keys, by environment or role.
    """
    internals.keep_from_trials(AWS_SECRETS)


@contextlib.contextmanager
def own_sigterm() -> Iterator[None]:
    """Keep this process's handler of SIGTERM while the block calls `ray.init`.

    Ray sets two: one prints a C++ stack and aborts 3 s later, the other exits with 15 (docs/traps.md). SIGTERM waits
    while the block runs. What the block starts inherits that SIGTERM is blocked: Ray's threads here, and the processes
    of a Ray on this machine. So a SIGTERM to a whole process group or control group leaves Ray running until the
    trials have kept their state. A worker that is to hear it unblocks it in its main thread.
    """
    if threading.current_thread() is not threading.main_thread():  # Ray sets no handler there
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def cluster_joined() -> Iterator[str | None]:
    """Connect to the cluster if one is running (RAY_ADDRESS, `ray start`), wait for its listed hosts, and disconnect at
    the end. Workers get this package with the connection, unless a Ray Job has brought it. Yields the address of a
    cluster that the connection brought the package to, else None.

    Raises UserError if no cluster answers, or one of another version of Ray or Python.
    """
    address = None if resources.joined() else resources.cluster_address()
    if address is None:
        yield None
        return
    import ray

    try:
        with own_sigterm():
            ray.init(address=address, log_to_driver=False, configure_logging=False, runtime_env=code_for_workers())
    except ConnectionError as error:
        raise UserError(f"RAY_ADDRESS {address}: no cluster answers ({error}); unset it for a local run") from None
    except RuntimeError as error:
        raise UserError(
            f"RAY_ADDRESS {address}: the cluster cannot be joined from here ({one_line(error)}); start it with this "
            "environment's Python and Ray, or unset it for a local run"
        ) from None
    try:
        fixed_hosts.wait_for_hosts(fixed_hosts.listed())
        yield address if brings_code() else None
    finally:
        ray.shutdown()


def brings_code() -> bool:
    """Whether the connection to a cluster brings this package: a Ray Job has it already."""
    return job_submission.JOB not in os.environ and not internals.inside_a_job()


def code_for_workers() -> dict[str, Any] | None:
    """The runtime environment in which workers find this package, wherever and by whom their node was started."""
    if not brings_code():
        return None
    root = Path(__file__).parents[2]
    return {
        "py_modules": [str(root / room) for room in job_submission.ROOMS],
        "excludes": ["__pycache__", "*.pyc"],
    }


@contextlib.contextmanager
def ray_started(**more: Any) -> Iterator[bool]:
    """A Ray on this machine's cores and GPUs (True), unless a cluster was joined; shut down whatever happens.

    more: what else `ray.init` is told.
    """
    if resources.joined():
        yield False
        return
    there = resources.machine()
    start(num_cpus=int(there.total("CPU")), num_gpus=int(there.total("GPU")), **more)
    try:
        yield True
    finally:
        shut_down()


def start(attempts: int = 3, **sizes: Any) -> None:
    """Start Ray on this machine. Ray gives its processes 30 s, so on a busy machine this tries again.

    Raises UserError if Ray does not start.
    """
    import ray

    sizes["include_dashboard"] = not internals.usable()  # the public way to leaked placement groups asks it
    for left in reversed(range(attempts)):
        try:
            with own_sigterm():
                ray.init(address="local", log_to_driver=False, configure_logging=False, **sizes)
            return
        except Exception as error:  # Ray raises no narrower one
            shut_down()
            if not left:
                raise UserError(
                    f"Ray does not start on this machine ({one_line(error)}); see "
                    f"{resources.ray_folder()}/session_latest/logs, and whether other work leaves it any time"
                ) from error


def shut_down() -> None:
    """End the Ray of this machine with all its processes.

    `ray.shutdown` sends each SIGTERM, which they do not hear (`own_sigterm`), and waits a second before it kills. Here
    it kills at once, and what those processes had started is killed after it.
    """
    import psutil
    import ray

    own, below = internals.own_processes(), list[psutil.Process]()
    for process in own:
        with contextlib.suppress(psutil.NoSuchProcess):
            below += psutil.Process(process.pid).children(recursive=True)
        process.terminate = process.kill  # type: ignore[method-assign]
    ray.shutdown()
    for orphan in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.kill()
