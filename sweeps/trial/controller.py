"""One trial: a Tune function that starts a Ray Train run and waits for it.

The function runs on the head, on a `trial_slot` and no CPU. So the loss of a worker's node never ends it, and trial
drivers never take the CPUs that their workers need. The Train run's name depends only on the study and the trial's
number, so a restarted trial continues from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import Future
from functools import partial
from queue import Empty
from threading import Thread
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayError

from svgan.io import storage
from sweeps.storage import events, stop_request, study_files
from sweeps.storage.plan import Plan
from sweeps.storage.trial_outcome import FAILED, HALTED, WHY
from sweeps.trial.trainer import Loop, Trainer, described, first_cause, report_queue, trainer
from sweeps.trial.waiting import WaitingNotice, wait, wait_for_room, why_no_place

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's list of whole checkpoints
# The classes of a `ray.train.ControllerError`'s failure, by name: Ray publishes the error and not the classes.
START_TIMED_OUT, START_FAILED = "WorkerGroupStartupTimeoutError", "WorkerGroupStartupFailedError"
START_RETRIES = 1  # a node may be lost while workers start; a cause that comes twice stays
DRIVER_RETRIES = 3  # a trial's process that dies a fourth time has a cause that stays, such as too little memory
POLL_SECONDS = 0.1  # of Train's workers, and of their reports: what a report costs a loop at most


def environment(plan: Plan) -> dict[str, str]:
    """Variables that Ray Train reads in the trial's process and passes on to controller and workers.

    Ray's health check and the watchdog have the same limit, so a frozen process is treated like one that hangs.
    """
    return {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL_SECONDS),
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
    from ray.train import TrainingFailedError

    starts, notice = 0, WaitingNotice(partial(events.tell, plan, number))
    while True:
        wait_for_room(plan, number, notice)
        before = last_checkpoint(plan, number)
        try:
            outcome = relayed(plan, config, loop)
            return outcome if isinstance(outcome, dict) else {FAILED: "the training loop returned nothing"}
        except TrainingFailedError as error:
            reason, cause = first_cause(error), type(getattr(error, "controller_failure", None)).__name__
            if stop_request.requested(plan):
                return {HALTED: True}
            if broken := storage.trouble(study_files.place(plan), error):
                return out_of_storage(plan, number, broken)
            if cause == START_TIMED_OUT:
                wait(plan, number, notice, why_no_place(plan))
                continue
            notice.reset()
            if cause == START_FAILED and starts < START_RETRIES:
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

    reports = report_queue()
    train, fitting = trainer(plan, config, loop, reports), Future[Any]()
    beside = Thread(target=fit_into, args=(train, fitting), daemon=True)
    beside.start()
    try:
        over = False
        while not over:
            over = fitting.done()  # looked at first: what was reported before the end is then in the queue
            with contextlib.suppress(Empty):
                while True:
                    tune.report(reports.get(timeout=POLL_SECONDS))
    except BaseException:  # Tune ends a stopped trial's thread by SystemExit
        if train.stop():
            beside.join()
        raise
    return fitting.result().return_value


def fit_into(train: Trainer, fitting: Future[Any]) -> None:
    """`fit`, with its result, or what it raised, put into the future."""
    try:
        fitting.set_result(train.fit())
    except BaseException as error:
        fitting.set_exception(error)


def train_loop(config: dict[str, Any]) -> dict[str, Any] | None:
    """`worker.train_loop`, imported where it runs."""
    from sweeps.trial import worker

    return worker.train_loop(config)


def last_checkpoint(plan: Plan, number: int) -> str | None:
    """The name of the newest checkpoint in the trial's Train folder; '' if there is none, None if the folder cannot be
    read.
    """
    try:
        found = storage.names(study_files.place(plan, f"train-{number:04d}"))
    except storage.ERRORS:
        return None
    return max((name for name in found if name.startswith("checkpoint_2")), default="")


def trial_folder(trial: Trial) -> str:
    """The name of Tune's folder of a trial, which holds the whole traceback of an error."""
    return f"trial-{trial.config['number']:04d}"
