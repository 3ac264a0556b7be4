"""One trial: a Tune function that starts a Ray Train run and waits for it.

The function runs on the head, on a `trial_slot` and no CPU, so that losing a worker's node never loses it and trials
never take the CPUs that their own workers need. The Train run's name is fixed by study and trial number: started
again, it goes on from its last checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from sweeps.plan import Plan, is_remote

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

Loop = Callable[[dict[str, Any]], dict[str, Any] | None]

START_RETRIES, WORKER_RETRIES = 1, 2
FAILED = "failed"
# Read by Ray Train in the trial's process and handed on by it to controller and workers.
TRAIN_ENV = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
}


class TrialFailed(RuntimeError):
    """A trial's own reason, in one line."""


def run_trial(config: dict[str, Any], loop: Loop) -> dict[str, Any]:
    """Train one configuration; returns the last figures with `finished`, which Tune takes as the last report.

    config: what `search.OptunaSearcher` suggests, with the plan. loop: runs in every worker; what rank 0's returns is
    the outcome. Raises TrialFailed with the first cause when retries are used up.
    """
    for name, value in TRAIN_ENV.items():
        os.environ.setdefault(name, value)
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError
    from ray.tune.integration.ray_train import TuneReportCallback

    plan = Plan.from_json(config["plan"])
    resources = {"CPU": plan.cpus_per_worker} | ({"GPU": plan.gpus_per_worker} if plan.gpus_per_worker else {})
    trainer = TorchTrainer(  # the types that mypy sees are those of Ray Train's first version, hence the ignores
        loop,  # type: ignore[arg-type]
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if plan.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=plan.workers, use_gpu=plan.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=plan.trial_name(config["number"]),
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(
                max_failures=WORKER_RETRIES,
                controller_failure_limit=START_RETRIES,  # type: ignore[call-arg]
            ),
            **storage_arguments(plan.storage),
        ),
    )
    try:
        outcome = trainer.fit().return_value  # type: ignore[attr-defined]
    except TrainingFailedError as error:
        raise TrialFailed(first_cause(error)) from None
    if not isinstance(outcome, dict):
        raise TrialFailed("the training loop returned nothing")
    if FAILED in outcome:
        raise TrialFailed(outcome[FAILED])
    return outcome


def trial_folder(trial: Trial) -> str:
    """Tune's own folder of a trial, which holds an error's whole traceback."""
    return f"trial-{trial.config['number']:04d}"


def storage_arguments(storage: str) -> dict[str, Any]:
    """Ray's pair of path and file system; a URL goes through fsspec, which honours AWS_ENDPOINT_URL."""
    if not is_remote(storage):
        return {"storage_path": storage.removeprefix("file://")}
    import fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    files, path = fsspec.core.url_to_fs(storage)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(FSSpecHandler(files))}


def first_cause(error: BaseException) -> str:
    """The first worker's own exception in one line, without the frames that Ray wraps around it."""
    failures = getattr(error, "worker_failures", None)
    inner = failures[min(failures)] if failures else getattr(error, "controller_failure", error)
    inner = getattr(inner, "_base_exc", inner)
    if isinstance(inner, UserError):
        return str(inner)
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[0] if lines else 'no message'}"[:500]
