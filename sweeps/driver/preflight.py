"""Refuse, in one line and before anything starts, whatever would fail later. A refusal leaves nothing behind.

The checks take under three seconds once the libraries are imported (bench/LOG.md). Slower work, fetching I3D and
measuring the real clips once, is in `prepare`, after the checks.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.io.storage_errors import explained
from sweeps.driver.disk_check import check_disk, size, state_bytes
from sweeps.driver.preflight_result import PreflightResult
from sweeps.ray_runtime import resources
from sweeps.record.state import StudyState
from sweeps.search import optuna_store, points, proposer, warm_start
from sweeps.storage import driver_lock, usage
from sweeps.storage.paths import is_remote
from sweeps.storage.plan import Plan
from sweeps.storage.plan_parts import SAMPLERS
from sweeps.tracking.database_check import check_tracking

if TYPE_CHECKING:
    from svgan.training.data import Material
    from sweeps.driver.definition import Study


def preflight(study: Study, plan: Plan) -> PreflightResult:
    """Run every check, quickest first. Raises UserError."""
    import mlflow  # noqa: F401  (imports are not counted)
    import torch  # noqa: F401

    from svgan.training import registry
    from sweeps.trial.training import material_of

    started = time.perf_counter()
    if driver_lock.is_held(plan):
        raise UserError(
            f"{plan.name}: {driver_lock.holder(plan)} is running this study; stop it with: "
            f"python -m sweeps stop {plan.name}"
        )
    there = resources.detect()
    resources.check_resources(plan, there)
    resources.check_memory(plan, there)
    check_storage(plan.output.storage)
    used = usage.recall(plan)
    usage.check_budget(plan, used)
    optuna_store.check_record(plan)
    check_tracking(plan.output.tracking, plan.output.experiment)
    material = material_of(plan, "cpu")
    latents = material.latents
    runs = [registry.read_config(config) for config in examples(study, plan)]
    for run in runs:
        registry.check_material(run, material)
        latents.windows(run.span)
        if run.batch % plan.compute.workers:
            raise UserError(
                f"--workers {plan.compute.workers}: they cannot share a batch of {run.batch} clips; use a divisor"
            )
    if plan.search.sampler != SAMPLERS[0]:
        proposer.check_sampler(plan, study.space)
    if plan.search.warm_start and not StudyState(optuna_store.open_log(plan).read()).warm:
        warm_start.warmed(plan, study.space)
    disk = check_disk(plan, *max(state_bytes(run, material) for run in runs))
    return PreflightResult(there, material, runs, disk, used, time.perf_counter() - started)


def prepare(plan: Plan, material: Material) -> None:
    """Fetch I3D and compute the real moments once here, so that trials neither race for them nor wait."""
    from svgan.assets import cache
    from svgan.metrics import fvd
    from sweeps.trial.artifacts import judge_of, protocol

    if not plan.judging.clips:
        return
    cache.path("i3d")
    under, domain, latents = (
        protocol("short", plan.judging.clips, plan.judging.precision),
        material.domain,
        material.latents,
    )
    wanted = fvd.REFERENCES if material.recorded is not None else fvd.REFERENCES[:1]
    missing = any(fvd.find_moments(under, domain, latents, reference) is None for reference in wanted)
    if missing and "fvd" in plan.judging.metrics:
        print(f"measuring {under.real_clips} real clips once (kept in the cache) ...", flush=True)
    if plan.judging.metrics != ("fvd",):
        print(f"looking at real clips once for {', '.join(plan.judging.metrics)} (kept in the cache) ...", flush=True)
    judge_of(plan, "short", material)


def examples(study: Study, plan: Plan, count: int = 8) -> list[dict[str, Any]]:
    """The configurations of all points that are given and of a few random ones, to find what the recipe refuses."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trial_run = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=plan.search.seed))
    given = [*study.controls, *plan.search.enqueued]
    for point in given:
        trial_run.enqueue_trial(point)
    return [study.config(plan, proposer.sample(study.space, trial_run.ask())) for _ in range(len(given) + count)]


def check_storage(location: str) -> None:
    """Write and remove a small file where checkpoints will go, and the folders made for it."""
    import fsspec

    probe = f"{location.rstrip('/')}/.probe-{uuid.uuid4().hex}"
    made: list[Path] = []
    try:
        files, path = fsspec.core.url_to_fs(probe)
        if not is_remote(location):
            made = [folder for folder in Path(path).parents if not folder.exists()]
            files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        with files.open(path, "wb") as out:
            out.write(b"svgan")
        files.rm_file(path)
        for folder in made:
            folder.rmdir()
    except Exception as error:  # every file system has errors of its own
        why, remedy = explained(location, error)
        raise UserError(f"--storage {location}: cannot be written ({why}); {remedy}, or choose another") from None


def announce(plan: Plan, cleared: PreflightResult, time: str, log: Path) -> str:
    """The text that shows the plan before anything starts. time: the forecast's line."""
    gpus = f" and {plan.compute.gpus_per_worker:g} GPU" if plan.compute.gpus_per_worker else ""
    scored = (
        f"FVD on {plan.judging.clips} clips (so few bias it upwards, alike for all trials)"
        if plan.judging.clips
        else "no FVD"
    )
    rungs = ", ".join(map(str, plan.search.rungs))
    stopped = {
        "hyperband": f"all but the best 1/{plan.search.reduction} of their bracket, and controls",
        "median": "those above the median of finished ones, but no controls",
    }.get(plan.search.pruner, f"all but the best 1/{plan.search.reduction} and controls")
    stops = f"stops at steps {rungs} {stopped}"
    long = f"up to {plan.search.steps} steps"
    if plan.search.seconds:
        long = f"{plan.search.seconds:g} s of training each ({', '.join(map(str, plan.search.lengths))} steps)"
    lines = [
        f"{plan.name}: {plan.search.trials} trials of {long}, {plan.compute.concurrency} at a time, each on "
        f"{plan.compute.workers} x {plan.compute.cpus_per_worker:g} CPU{gpus}",
        f"{stops if plan.search.rungs else 'none is stopped early'}; {scored}",
        time,
        f"disk: at most {size(cleared.disk)} of checkpoints and models; log: {log}",
    ]
    if plan.search.enqueued:
        lines.append(f"enqueued, before anything is proposed: {'; '.join(map(points.describe, plan.search.enqueued))}")
    if plan.search.warm_start:
        lines.append(f"the sampler begins with the finished trials of {plan.search.warm_start}")
    if plan.compute.max_gpu_hours is not None:
        used = usage.counted(plan, sum(cleared.used.values()))
        by_now = f", {usage.describe(plan, used)} of them used by now" if used else ""
        lines.insert(3, f"budget: {usage.describe(plan, plan.compute.max_gpu_hours)}{by_now}")
    limits = {"this command": plan.compute.max_hours, "training of each trial": plan.compute.trial_hours}
    if told := [f"{what} at most {hours:g} h" for what, hours in limits.items() if hours is not None]:
        lines.insert(3, f"limits: {', '.join(told)}")
    fits = (
        cleared.there.workers(plan.compute.cpus_per_worker, plan.compute.gpus_per_worker, now=True)
        // plan.compute.workers
    )
    if fits < plan.compute.concurrency:
        lines.insert(
            1, f"{fits} of {plan.compute.concurrency} fit now, the rest when nodes come ({cleared.there.growth})"
        )
    return "\n".join(lines)
