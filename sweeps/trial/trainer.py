"""The Ray Train run of one trial: its trainer, and the way of rank 0's reports from Train's controller to the trial."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from ray.exceptions import RayActorError
from ray.train import UserCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from svgan.errors import UserError
from sweeps.ray_runtime import internals
from sweeps.ray_runtime.notice import ListeningConfig
from sweeps.storage import events
from sweeps.storage.paths import is_remote
from sweeps.storage.plan import KEPT_CHECKPOINTS, Plan

if TYPE_CHECKING:
    from ray.util.queue import Queue

    from sweeps.ray_runtime.network import RoutedTorchConfig

Loop = Callable[[dict[str, Any]], dict[str, Any] | None]

FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
ANSI = re.compile(r"\x1b\[[0-9;]*m")
COLLECTIVE_SECONDS = 1800  # Ray's default: rank 0 may validate, upload and log for so long while the others wait


class Trainer(Protocol):
    def fit(self) -> Any: ...

    def stop(self) -> bool:
        """End the workers, from another thread; whether `fit` then returns soon."""
        ...


class PublicTrainer(DataParallelTrainer):
    """Ray Train's trainer as it is published, for a Ray whose internals were not tested: its controller is an actor."""

    def stop(self) -> bool:
        """Nothing public ends a run: its controller and its workers end with the trial's process."""
        return False


def report_queue() -> SimpleQueue[dict[str, Any]] | Queue:
    """Memory of this process where the controller runs in it, else an actor."""
    if internals.usable():
        return SimpleQueue()
    from ray.util.queue import Queue

    return Queue(actor_options={"num_cpus": 0})


def trainer(
    plan: Plan,
    config: dict[str, Any],
    loop: Loop,
    reports: SimpleQueue[dict[str, Any]] | Queue,
    nodes: list[str],
) -> Trainer:
    """A single worker joins no process group, so that it alone imports torch, not driver and controller.

    nodes: is given the ids of the workers' nodes, where the controller runs in this process.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig

    kind: type[Any] = PublicTrainer
    if internals.usable():
        from sweeps.ray_runtime.train_internals import TrainerInProcess

        kind = TrainerInProcess
    resources = {"CPU": plan.compute.cpus_per_worker} | (
        {"GPU": plan.compute.gpus_per_worker} if plan.compute.gpus_per_worker else {}
    )
    backend: ListeningConfig | RoutedTorchConfig = ListeningConfig(nodes=nodes)
    if plan.compute.workers > 1:
        from sweeps.ray_runtime.network import RoutedTorchConfig

        backend = RoutedTorchConfig(
            backend="nccl" if plan.compute.gpus_per_worker else "gloo", timeout_s=collective_seconds(plan), nodes=nodes
        )
    made: Trainer = kind(
        loop,
        train_loop_config=config,
        backend_config=backend,
        scaling_config=ScalingConfig(
            num_workers=plan.compute.workers, use_gpu=plan.compute.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=plan.trial_name(config["number"]),
            callbacks=[ReportRelay(plan, config["number"], reports)],  # type: ignore[list-item]  # of Train's version 1
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
            failure_config=FailureConfig(  # every failure ends the run; `retries.charge` has the rule
                max_failures=0,
                controller_failure_limit=0,  # type: ignore[call-arg]
                max_preemption_failures=0,
            ),
            **storage_arguments(plan.output.storage),
        ),
    )
    return made


class ReportRelay(UserCallback):
    """A callback of Ray Train's controller that relays rank 0's reports, and says why workers are restarted."""

    def __init__(self, plan: Plan, number: int, reports: SimpleQueue[dict[str, Any]] | Queue) -> None:
        self.plan, self.number, self.reports = plan, number, reports

    def __getstate__(self) -> dict[str, Any]:
        """Workers are given the whole configuration of the run, with this in it, and call nothing of it; a controller
        in another process does."""
        return {} if isinstance(self.reports, SimpleQueue) else self.__dict__

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        self.reports.put(metrics[0])

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        rank = min(worker_exceptions)
        events.tell(self.plan, self.number, f"rank {rank} ended with {described(worker_exceptions[rank])}")


def collective_seconds(plan: Plan) -> int:
    """Seconds that a rank waits for the others in a collective. The watchdog is to act first, as it says who hangs."""
    return max(COLLECTIVE_SECONDS, math.ceil(2 * 60 * plan.compute.patience))


def storage_arguments(storage: str) -> dict[str, Any]:
    """Ray's storage path and file system. URLs go through fsspec, which reads AWS_ENDPOINT_URL."""
    if not is_remote(storage):
        return {"storage_path": storage.removeprefix("file://")}
    import fsspec
    from pyarrow.fs import PyFileSystem

    from sweeps.trial.counted_storage import CountingHandler

    files, path = fsspec.core.url_to_fs(storage)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(CountingHandler(files))}


def first_cause(error: BaseException) -> str:
    """The first worker's own exception in one line, without Ray's frames around it."""
    failures = getattr(error, "worker_failures", None)
    return described(failures[min(failures)] if failures else getattr(error, "controller_failure", error))


def died_of_drain(error: BaseException) -> bool:
    """Whether Ray says of any worker that it died because its node was drained."""
    return any(death.preempted for death in deaths(error))


def raised_by_itself(error: BaseException, workers: int) -> bool:
    """Whether the failure is surely the training's own, and not what remains to be seen of a lost node.

    Ray learns of a lost node up to a minute late. Until then a worker there looks dead or unreachable, and workers of
    other nodes fail because they cannot reach it.
    """
    return workers == 1 and bool(getattr(error, "worker_failures", None)) and not deaths(error)


def deaths(error: BaseException) -> list[RayActorError]:
    """What Ray says of the workers that died, or that it cannot reach."""
    failures = getattr(error, "worker_failures", {}).values()
    causes = [getattr(failure, "health_check_failure", failure) for failure in failures]
    return [cause for cause in causes if isinstance(cause, RayActorError)]


def described(error: BaseException) -> str:
    """An exception in one line: a UserError as it is, any other with its class, first line and innermost frame of our
    own.
    """
    inner, traceback = internals.exception_of(error)
    inner = getattr(inner, "cause", None) or inner  # of an error that Ray wrapped
    if isinstance(inner, UserError):
        return str(inner)
    if inner is None:
        kind, text = last_exception(traceback)
        if kind == f"{UserError.__module__}.{UserError.__name__}":
            return text
        kind = kind.rpartition(".")[2]
    else:
        kind, text = type(inner).__name__, str(inner)
    lines = [line.strip() for line in ANSI.sub("", text).splitlines() if line.strip()]
    frames = FRAME.findall(traceback)
    where = " at {}:{} in {}".format(Path(frames[-1][0]).name, *frames[-1][1:]) if frames else ""
    return f"{kind}: {lines[0] if lines else 'no message'}"[:400] + where


def last_exception(traceback: str) -> tuple[str, str]:
    """The kind, with its module, and the message of the exception that a traceback's text ends with."""
    after = traceback.rpartition('  File "')[2].splitlines()[1:]
    lines = [line for line in after if line.strip()]
    while lines and lines[0].startswith(" "):
        lines.pop(0)
    kind, _, message = "\n".join(lines).partition(": ")
    return kind.strip(), message
