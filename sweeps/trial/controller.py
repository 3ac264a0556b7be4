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
from typing import TYPE_CHECKING, Any, cast

from ray.exceptions import RayError

from svgan.io import storage
from sweeps.ray_runtime import notice
from sweeps.storage import events, stop_request, study_files
from sweeps.storage.plan import Plan
from sweeps.storage.trial_outcome import FAILED, HALTED, LEFT, WHY
from sweeps.trial.retries import Cause, Charges, charge
from sweeps.trial.trainer import (
    Loop,
    Trainer,
    described,
    died_of_drain,
    first_cause,
    raised_by_itself,
    report_queue,
    trainer,
)
from sweeps.trial.waiting import WaitingNotice, wait, wait_for_room, why_no_place

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's list of whole checkpoints
# The classes of a `ray.train.ControllerError`'s failure, by name: Ray publishes the error and not the classes.
START_TIMED_OUT, START_FAILED = "WorkerGroupStartupTimeoutError", "WorkerGroupStartupFailedError"
DRIVER_RETRIES = 3  # a trial's process that dies a fourth time has a cause that stays, such as too little memory
POLL_SECONDS = 0.1  # of Train's workers, and of their reports: what a report costs a loop at most


def environment(plan: Plan, several_nodes: bool) -> dict[str, str]:
    """Variables that Ray Train reads in the trial's process and passes on to controller and workers.

    Ray's health check and the watchdog have the same limit, so a frozen process is treated like one that hangs.
    several_nodes: whether the cluster has, or may get, more than one.
    """
    return {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL_SECONDS),
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(60 * plan.compute.patience),
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
        "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
        **notice.environment(several_nodes),
    }


def run_trial(config: dict[str, Any], loop: Loop) -> dict[str, Any]:
    """Train one configuration; return its last figures and its outcome (`trial_outcome.how_it_ended`).

    config: what the searcher suggests, and the plan. loop: the function that every worker runs; rank 0's return value
    is the outcome.

    - A failure of the training itself is returned, not raised. Tune restarts a trial only if its process died or lost
      Ray.
    - If the storage cannot be written, the trial is halted, with the reason.
    - Waiting for resources is no failure, however long it takes.
    - Workers that die are started again, as `retries.charge` says. The loss of a node is not charged to the trial.
    """
    plan, number = Plan.from_json(config["plan"]), int(config["number"])
    from ray.train import TrainingFailedError

    charges, cause = Charges(), cast(Cause, "own")
    waiting = WaitingNotice(partial(events.tell, plan, number))
    while True:
        wait_for_room(plan, number, waiting)
        os.environ.update(environment(plan, several_nodes()))
        discard_unfinished(plan, number)
        before, alive, nodes = last_checkpoint(plan, number), notice.living_nodes(), list[str]()
        try:
            outcome = relayed(plan, config, loop, nodes)
            if not isinstance(outcome, dict):
                return {FAILED: "the training loop returned nothing"}
            if not outcome.get(LEFT):
                return outcome
            reason, cause, sure = "its workers left", "notice", True
        except TrainingFailedError as error:
            if broken := storage.trouble(study_files.place(plan), error):
                return {HALTED: True} if stop_request.requested(plan) else out_of_storage(plan, number, broken)
            reason, cause = first_cause(error), cause_of(error, set(nodes) or alive)
            sure = len(alive) == 1 or raised_by_itself(error, plan.compute.workers)
        except Exception as error:
            if broken := storage.trouble(study_files.place(plan), error):
                return out_of_storage(plan, number, broken)
            if isinstance(error, RayError):
                raise
            return {FAILED: described(error)}
        if stop_request.requested(plan):
            return {HALTED: True}
        if cause == "room":
            wait(plan, number, waiting, why_no_place(plan))
            continue
        waiting.reset()
        progress = last_checkpoint(plan, number) not in (before, None)
        charged, again = charge(charges, cause, progress)
        if not again and not sure and notice.lost(set(nodes) or alive, notice.LOSS_SECONDS):
            charged, again = charge(charges, "node", progress)
        if not again:
            return {FAILED: reason}
        charges = charged
        events.tell(plan, number, f"{reason}; once more")


def several_nodes() -> bool:
    """Whether the cluster has more than one node, with what its autoscaler can add."""
    from sweeps.ray_runtime.resources import cluster

    there = cluster()
    return len(there.nodes) + len(there.coming) > 1


def cause_of(error: Exception, nodes: set[str]) -> Cause:
    """Why a Ray Train run failed. nodes: those of its workers, or all that were there, where they are not known."""
    from ray.train import PreemptionError

    kind = type(getattr(error, "controller_failure", None)).__name__
    if kind == START_TIMED_OUT:
        return "room"
    if isinstance(error, PreemptionError) or died_of_drain(error) or notice.lost(nodes):
        return "node"
    return "start" if kind == START_FAILED else "own"


def out_of_storage(plan: Plan, number: int, broken: str) -> dict[str, Any]:
    """The outcome of a trial whose storage cannot be written. Discards the unfinished checkpoint."""
    discard_unfinished(plan, number)
    return {HALTED: True, WHY: f"--storage {plan.output.storage}: cannot be written ({broken})"}


def relayed(plan: Plan, config: dict[str, Any], loop: Loop, nodes: list[str]) -> Any:
    """Run the trainer and pass rank 0's reports on to Tune as they come; return the loop's result.

    nodes: as of `trainer.trainer`.

    All reports go to Tune from this thread. Ray's TuneReportCallback reports from another thread, which can deadlock
    with the function's return (docs/traps.md).
    """
    from ray import tune

    reports = report_queue()
    train, fitting = trainer(plan, config, loop, reports, nodes), Future[Any]()
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


def checkpoints(plan: Plan, number: int) -> tuple[list[str], list[str]]:
    """The names of a trial's checkpoints, oldest first: those that Ray Train has recorded, and unfinished ones.

    Raises what the storage raises.
    """
    folder = study_files.training(plan, number)
    found = sorted(name for name in storage.names(folder) if name.startswith("checkpoint_2"))
    record = (storage.read(f"{folder}/{SNAPSHOT}") or b"") if found else b""
    whole = [name for name in found if name.encode() in record]
    return whole, [name for name in found if name not in whole]


def last_checkpoint(plan: Plan, number: int) -> str | None:
    """The name of the trial's newest whole checkpoint; '' if there is none, None if the storage cannot be read."""
    try:
        return max(checkpoints(plan, number)[0], default="")
    except storage.ERRORS:
        return None


def discard_unfinished(plan: Plan, number: int) -> None:
    """Remove the checkpoints that workers had begun when they ended, unless there is no whole one."""
    with contextlib.suppress(*storage.ERRORS):
        whole, unfinished = checkpoints(plan, number)
        for name in unfinished if whole else []:
            storage.remove(study_files.training(plan, number, name))


def trial_folder(trial: Trial) -> str:
    """The name of Tune's folder of a trial, which holds the whole traceback of an error."""
    return f"trial-{trial.config['number']:04d}"
