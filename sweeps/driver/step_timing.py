"""The number of steps that take the seconds asked for, from timed iterations of each control where trials will run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from sweeps.ray_runtime import resources
from sweeps.storage.plan import Plan

if TYPE_CHECKING:
    from svgan.training.config import RunConfig

TIMED_SECONDS = 10.0  # for which a control is timed: the fastest of as many iterations as fit varies by some percent


def lengths(plan: Plan, runs: Sequence[RunConfig]) -> tuple[int, ...]:
    """The steps of each run that take plan.search.seconds, timed one after another.

    They are timed in this process or, on a cluster, in a task of a worker's size. Raises UserError if trials have GPUs
    and this machine has none.
    """
    import torch

    assert plan.search.seconds is not None
    if resources.joined():
        found = on_a_worker(plan, runs)
    elif plan.compute.gpus_per_worker and not torch.cuda.is_available():
        raise UserError(
            "--seconds: here is no GPU to time iterations on; start the study where one is, or give --steps"
        )
    else:
        found = [step_seconds(plan.to_json(), run.to_json()) for run in runs]
    return tuple(max(1, round(plan.search.seconds / seconds)) for seconds in found)


def on_a_worker(plan: Plan, runs: Sequence[RunConfig]) -> list[float]:
    """Return `step_seconds` of each run."""
    import ray

    from sweeps.parallel.remote_tasks import cause_of

    task: Any = ray.remote(num_cpus=plan.compute.cpus_per_worker, num_gpus=plan.compute.gpus_per_worker)(step_seconds)
    try:
        return [ray.get(task.remote(plan.to_json(), run.to_json())) for run in runs]
    except ray.exceptions.RayError as error:
        raise cause_of(error) from None


def step_seconds(plan: dict[str, Any], run: dict[str, Any]) -> float:
    """Seconds of the fastest of a few iterations. On a CPU, this process's CPU time, whatever else runs there."""
    from svgan.training.registry import read_config
    from sweeps.driver import forecast
    from sweeps.trial.training import material_of

    of = Plan.from_json(plan)
    device = "cuda" if of.compute.gpus_per_worker else "cpu"
    material = material_of(of, device)
    clock = time.process_time if device == "cpu" else time.perf_counter
    budget = min(TIMED_SECONDS, of.search.seconds or TIMED_SECONDS)
    return forecast.timed(of, read_config(run), material, device, budget, clock).step
