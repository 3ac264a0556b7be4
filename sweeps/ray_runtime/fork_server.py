"""Ray's workers on this machine as forks of one process that has imported everything already.

A trial takes several processes, and each would import Ray, Train, torch and MLflow anew: 3 to 8 seconds of a core, most
of what a short trial costs (bench/LOG.md). So a study that starts its own Ray also starts this server, and Ray starts
`forked_worker.py` in place of its own `setup_worker.py`, which asks the server for a fork. If the server is gone, Ray's
workers start as ever. On a cluster's nodes nothing of this happens.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sweeps.ray_runtime import log_capture, resources
from sweeps.ray_runtime.forked_worker import SOCKET, receive

# What Ray's workers, Tune's trials and the training loop import: first all that does without Ray. Its C++ core reads
# the job's number and its raylet's process from the environment when it is loaded, so it comes with the first worker.
BEFORE = (
    "torch",
    "pandas",
    "pyarrow.fs",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.artifact.local_artifact_repo",
    "sweeps.trial.training",
    "sweeps.trial.artifacts",
    "sweeps.tracking.trial_log",
)
WITH_RAY = (
    "ray._private.node",
    "ray.tune",
    "ray.train.torch",
    "sweeps.trial.controller",
    "sweeps.trial.worker",
    "sweeps.trial.multi_seed",
)
JOB, RAYLET, NO_JOB = "RAY_JOB_ID", "RAY_RAYLET_PID", "ffffffff"


@contextlib.contextmanager
def forkserver() -> Iterator[None]:
    """The server, for the Ray that is started within; it ends with the block or with this process. There is none where
    a cluster was joined, nor on macOS, whose libraries do not survive a fork."""
    if resources.joined() or sys.platform != "linux":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="svgan-fork-") as folder, contextlib.ExitStack() as ending:
        path = str(Path(folder, "socket"))
        warm = all(name in sys.modules for name in BEFORE) and "ray" not in sys.modules
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(128)
            ending.callback((_forked if warm else _started)(listener))
        from ray._private import ray_constants

        ending.callback(setattr, ray_constants, "SETUP_WORKER_FILENAME", ray_constants.SETUP_WORKER_FILENAME)
        ray_constants.SETUP_WORKER_FILENAME = str(Path(__file__).with_name("forked_worker.py"))
        around = os.environ.get(SOCKET)
        os.environ[SOCKET] = path
        ending.callback(lambda: os.environ.update({SOCKET: around}) if around else os.environ.pop(SOCKET))
        yield


def _started(listener: socket.socket) -> Callable[[], object]:
    """The server as a new process; returns what ends it."""
    paths = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "sweeps.ray_runtime.fork_server", str(listener.fileno())],
        pass_fds=[listener.fileno()],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # One thread, as Ray gives a worker of one CPU: libraries read it when they are loaded.
        env={"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))},
    )

    def end() -> None:
        server.kill()
        server.communicate()

    return end


def _forked(listener: socket.socket) -> Callable[[], object]:
    """The server as a fork of this process, which was one itself and has all that it needs; returns what ends it."""
    read, write = os.pipe()
    server = os.fork()
    if not server:
        try:  # nothing of this process's own work may go on in the fork
            os.setsid()
            os.dup2(read, 0)
            os.dup2(listener.fileno(), 3)
            os.closerange(4, os.sysconf("SC_OPEN_MAX"))
            serve(3)
        finally:
            os._exit(0)
    os.close(read)

    def end() -> None:
        os.close(write)
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)

    return end


def serve(listening: int) -> None:
    """Fork for each connection to the socket of that file descriptor until standard input ends. Who comes before all
    is imported waits."""
    listener = socket.socket(fileno=listening)
    log_capture.settings()
    for name in BEFORE:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        ready.register(0, selectors.EVENT_READ)
        while all(key.fileobj is listener for key, _ in ready.select()):
            connection, _ = listener.accept()
            with connection, contextlib.suppress(EOFError):
                asked, files = receive(connection)
                if fitting(asked["environment"]) and os.fork() == 0:
                    ready.close()
                    listener.close()
                    become(connection, asked, files)
                for file in files:
                    os.close(file)
    shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)  # this end: the study was killed


def fitting(environment: dict[str, str]) -> bool:
    """Whether a fork of this process may be the worker of that environment. The first worker of a job makes this the
    process of that job, with all imported; before, forks import what has to do with Ray for themselves."""
    mine = tuple(os.environ.get(name, "") for name in (JOB, RAYLET))
    asked = tuple(environment.get(name, "") for name in (JOB, RAYLET))
    if "ray" not in sys.modules and asked[0] not in ("", NO_JOB):
        os.environ.update({name: value for name, value in environment.items() if name.startswith("RAY_")})
        import_ray()
        return True
    return "ray" not in sys.modules or mine == asked


def import_ray() -> None:
    """Import WITH_RAY. Ray draws its ids from a pool that forks share once something was drawn from it, and
    `ray.remote` draws one for each class: here the kernel gives it. Raises RuntimeError if forks share a pool all the
    same."""
    import ray.actor
    from ray._raylet import ActorClassID

    class FromKernel:
        @staticmethod
        def from_random() -> ActorClassID:
            return ActorClassID(os.urandom(ActorClassID.size()))

    ray.actor.ActorClassID = FromKernel  # type: ignore[misc,assignment]
    for name in WITH_RAY:
        importlib.import_module(name)
    ray.actor.ActorClassID = ActorClassID  # type: ignore[misc]
    if drawn_in_a_fork() == drawn_in_a_fork():
        raise RuntimeError("forks would draw the same ids")
    gc.collect()
    gc.freeze()


def drawn_in_a_fork() -> bytes:
    from ray._raylet import UniqueID

    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, UniqueID.from_random().binary())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as end:
        return end.read()


def become(connection: socket.socket, asked: dict[str, Any], files: list[int]) -> None:
    """In the fork: the process that the other end of the connection asks for. It is told this one's id at the start,
    and its exit code at the end."""
    code: int | str | None = 1
    try:
        os.setsid()  # Ray kills a worker with its whole process group
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = asked["command"]
        sys.path.insert(0, os.path.dirname(sys.argv[0]))
        import numpy

        numpy.random.seed()
        connection.send(b"%d\n" % os.getpid())
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.send(b"%d\n" % (code if isinstance(code, int) else int(code is not None)))
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
