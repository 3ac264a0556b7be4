"""One trial: a Tune function that starts a Ray Train run and waits for it.

The function runs on the head, on a `trial_slot` and no CPU. So the loss of a worker's node never ends it, and trial
drivers never take the CPUs that their workers need. The Train run's name depends only on the study and the trial's
number, so a restarted trial continues from its last checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayError
from ray.train import UserCallback
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from svgan.errors import UserError
from svgan.io import storage
from sweeps.storage import events, stop_request, study_files
from sweeps.storage.paths import is_remote
from sweeps.storage.plan import Plan
from sweeps.storage.trial_outcome import FAILED, HALTED, WHY

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from sweeps.ray_runtime.resources import Room

Loop = Callable[[dict[str, Any]], dict[str, Any] | None]

FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
ANSI = re.compile(r"\x1b\[[0-9;]*m")
SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's list of whole checkpoints
START_RETRIES, WORKER_RETRIES, DRIVER_RETRIES = 1, 2, 3


def environment(plan: Plan) -> dict[str, str]:
    """Variables that Ray Train reads in the trial's process and passes on to controller and workers.

    Ray's health check and the watchdog have the same limit, so a frozen process is treated like one that hangs.
    """
    return {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(60 * plan.compute.patience),
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
        "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    }


def run_trial(config: dict[str, Any], loop: Loop) -> dict[str, Any]:
    """Train one configuration; return its last figures and its outcome (`trial_outcome.how_it_ended`).

    config: what the searcher suggests, and the plan. loop: the function that every worker runs; rank 0's return value
    is the outcome.

    - A failure of the training itself is returned, not raised. Tune restarts a trial only if its process died or lost
      Ray.
    - If the storage cannot be written, the trial is halted, with the reason.
    - Waiting for resources is no failure, however long it takes.
    - Workers that die are restarted. Only failures without a new checkpoint between them count as retries.
    """
    plan, number = Plan.from_json(config["plan"]), int(config["number"])
    os.environ.update(environment(plan))
    from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
    from ray.train.v2.api.exceptions import TrainingFailedError

    starts = 0
    while True:
        wait_for_room(plan, number)
        before = last_checkpoint(plan, number)
        try:
            outcome = relayed(plan, config, loop)
            return outcome if isinstance(outcome, dict) else {FAILED: "the training loop returned nothing"}
        except TrainingFailedError as error:
            reason, cause = first_cause(error), getattr(error, "controller_failure", None)
            if stop_request.requested(plan):
                return {HALTED: True}
            if broken := storage.trouble(study_files.place(plan), error):
                return out_of_storage(plan, number, broken)
            if isinstance(cause, WorkerGroupStartupTimeoutError):
                reason = "no free place for its workers yet"
            elif isinstance(cause, WorkerGroupStartupFailedError) and starts < START_RETRIES:
                starts += 1
            elif last_checkpoint(plan, number) in (before, None):
                return {FAILED: reason}
            events.tell(plan, number, f"{reason}; once more")
        except Exception as error:
            if broken := storage.trouble(study_files.place(plan), error):
                return out_of_storage(plan, number, broken)
            if isinstance(error, RayError):
                raise
            return {FAILED: described(error)}


def out_of_storage(plan: Plan, number: int, broken: str) -> dict[str, Any]:
    """The outcome of a trial whose storage cannot be written. Discards the unfinished checkpoint."""
    folder = study_files.place(plan, f"train-{number:04d}")
    with contextlib.suppress(*storage.ERRORS):
        record = storage.read(f"{folder}/{SNAPSHOT}") or b""
        whole = [name for name in storage.names(folder) if name.startswith("checkpoint_2") and name.encode() in record]
        for name in storage.names(folder) if whole else []:
            if name.startswith("checkpoint_2") and name not in whole:
                storage.remove(f"{folder}/{name}")
    return {HALTED: True, WHY: f"--storage {plan.output.storage}: cannot be written ({broken})"}


def relayed(plan: Plan, config: dict[str, Any], loop: Loop) -> Any:
    """Run the trainer and pass rank 0's reports on to Tune as they come; return the loop's result.

    All reports go to Tune from this thread. Ray's TuneReportCallback reports from another thread, which can deadlock
    with the function's return (docs/traps.md).
    """
    from ray import tune

    reports: SimpleQueue[dict[str, Any]] = SimpleQueue()
    train = trainer(plan, config, loop, reports)
    with ThreadPoolExecutor(1) as beside:
        fitting = beside.submit(train.fit)
        try:
            over = False
            while not over:
                over = fitting.done()  # looked at first: what was reported before the end is then in the queue
                with contextlib.suppress(Empty):
                    while True:
                        tune.report(reports.get(timeout=0.1))
        except BaseException:  # Tune ends a stopped trial's thread by SystemExit
            train.stop()
            raise
        return fitting.result().return_value  # type: ignore[attr-defined]


class Workers(WorkerGroup):
    """Ray Train's worker group, which keeps no place when its workers cannot meet: Ray forgets the placement group of a
    start that failed so late, and it would live as long as the trial's process."""

    def _start(self) -> None:
        try:
            super()._start()
        except Exception:
            if self.has_started():
                self.get_worker_group_state().shutdown()
                self._clear_state()
            raise


class Controller(TrainController):
    worker_group_cls = Workers


class Trainer(DataParallelTrainer):
    """Ray Train's trainer with less around each trial: its controller runs here, in the trial's own process, and two
    actors are left out.

    The one hands out Ray Data's shards, of which there are none; the other removes placement groups of a controller
    that died, which `guard.Reaper` does for all trials, sooner and without the dashboard.
    """

    running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None

    def _create_default_callbacks(self) -> list[Any]:
        without = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, without)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        return asyncio.run(self._controlled(Controller(**arguments)))

    async def _controlled(self, controller: TrainController) -> Any:
        self.running = asyncio.get_running_loop(), asyncio.ensure_future(controller.run())
        try:
            await self.running[1]
        except asyncio.CancelledError:
            if group := controller.get_worker_group():
                group.shutdown()
            raise
        return controller.get_result()

    def stop(self) -> None:
        """Stop the workers, from another thread."""
        if self.running is not None:
            loop, task = self.running
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(task.cancel)


def trainer(plan: Plan, config: dict[str, Any], loop: Loop, reports: SimpleQueue[dict[str, Any]]) -> Trainer:
    """A single worker joins no process group, so that it alone imports torch, not driver and controller."""
    from ray.train import BackendConfig, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig

    resources = {"CPU": plan.compute.cpus_per_worker} | (
        {"GPU": plan.compute.gpus_per_worker} if plan.compute.gpus_per_worker else {}
    )
    backend = BackendConfig()
    if plan.compute.workers > 1:
        from sweeps.ray_runtime.network import Meeting

        backend = Meeting(backend="nccl" if plan.compute.gpus_per_worker else "gloo")
    return Trainer(  # the types that mypy sees are those of Ray Train's first version, hence the ignores
        functools.partial(in_worker, loop),  # type: ignore[arg-type]
        train_loop_config=config,
        backend_config=backend,
        scaling_config=ScalingConfig(
            num_workers=plan.compute.workers, use_gpu=plan.compute.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=plan.trial_name(config["number"]),
            callbacks=[InController(plan, config["number"], reports)],  # type: ignore[list-item]
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(
                max_failures=WORKER_RETRIES,
                controller_failure_limit=0,  # type: ignore[call-arg]
            ),
            **storage_arguments(plan.output.storage),
        ),
    )


def in_worker(loop: Loop, config: dict[str, Any]) -> dict[str, Any] | None:
    """The loop, in a worker. One that is alone names its checkpoints itself: Ray has an actor asked at each report what
    all ranks call it, which is half of the time that a report takes (docs/traps.md)."""
    from ray.train.v2._internal.execution.context import get_train_context

    context: Any = get_train_context()
    if context.get_world_size() == 1:
        made = context.storage_context.make_default_checkpoint_dir_name
        context._sync_checkpoint_dir_name_across_ranks = lambda name=None: name or made()
    return loop(config)


def train_loop(config: dict[str, Any]) -> dict[str, Any] | None:
    """`worker.train_loop`, imported where it runs."""
    from sweeps.trial import worker

    return worker.train_loop(config)


class InController(UserCallback):
    """Ray Train's controller calls this: it passes rank 0's reports on, and says why workers are restarted."""

    def __init__(self, plan: Plan, number: int, reports: SimpleQueue[dict[str, Any]]) -> None:
        self.plan, self.number, self.reports = plan, number, reports

    def __getstate__(self) -> dict[str, Any]:
        """Workers are given the whole configuration of the run, with this in it, and call nothing of it."""
        return {}

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        self.reports.put(metrics[0])

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        rank = min(worker_exceptions)
        events.tell(self.plan, self.number, f"rank {rank} ended with {described(worker_exceptions[rank])}")


def last_checkpoint(plan: Plan, number: int) -> str | None:
    """The name of the newest checkpoint in the trial's Train folder; '' if there is none, None if the folder cannot be
    read.
    """
    try:
        found = storage.names(study_files.place(plan, f"train-{number:04d}"))
    except storage.ERRORS:
        return None
    return max((name for name in found if name.startswith("checkpoint_2")), default="")


def wait_for_room(plan: Plan, number: int, every: float = 5.0) -> None:
    """Wait while the cluster, including what its autoscaler can add, is too small for one trial, because a node was
    lost.
    """
    from sweeps.ray_runtime.resources import cluster

    waited = False
    while (missing := shortage(plan, cluster())) and not stop_request.requested(plan):
        if not waited:
            events.tell(plan, number, f"waits for a node: {missing}; it goes on when one joins")
        waited = True
        time.sleep(every)
    if waited:
        events.tell(plan, number, "goes on: there is room again")


def shortage(plan: Plan, there: Room) -> str:
    """The resources that one trial lacks; '' if none."""
    fits = there.workers(plan.compute.cpus_per_worker, plan.compute.gpus_per_worker)
    gpus = f" and {plan.compute.gpus_per_worker:g} GPU" if plan.compute.gpus_per_worker else ""
    asked = f"{plan.compute.workers} x {plan.compute.cpus_per_worker:g} CPU{gpus}"
    return "" if fits >= plan.compute.workers else f"{asked} asked, room for {fits} of {plan.compute.workers}"


def trial_folder(trial: Trial) -> str:
    """The name of Tune's folder of a trial, which holds the whole traceback of an error."""
    return f"trial-{trial.config['number']:04d}"


def storage_arguments(storage: str) -> dict[str, Any]:
    """Ray's storage path and file system. URLs go through fsspec, which reads AWS_ENDPOINT_URL."""
    if not is_remote(storage):
        return {"storage_path": storage.removeprefix("file://")}
    import fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    files, path = fsspec.core.url_to_fs(storage)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(FSSpecHandler(files))}


def first_cause(error: BaseException) -> str:
    """The first worker's own exception in one line, without Ray's frames around it."""
    failures = getattr(error, "worker_failures", None)
    return described(failures[min(failures)] if failures else getattr(error, "controller_failure", error))


def described(error: BaseException) -> str:
    """An exception in one line: a UserError as it is, any other with its class, first line and innermost frame of our
    own.
    """
    inner = getattr(error, "_base_exc", error)
    inner = getattr(inner, "cause", None) or inner  # of an error that Ray wrapped
    if isinstance(inner, UserError):
        return str(inner)
    lines = [line.strip() for line in ANSI.sub("", str(inner)).splitlines() if line.strip()]
    frames = FRAME.findall(getattr(error, "_traceback_str", ""))
    where = " at {}:{} in {}".format(Path(frames[-1][0]).name, *frames[-1][1:]) if frames else ""
    return f"{type(inner).__name__}: {lines[0] if lines else 'no message'}"[:400] + where
