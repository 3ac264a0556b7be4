"""A forecast of a study's time, from earlier trials of its recipe in this MLflow, else from a few timed iterations."""

from __future__ import annotations

import contextlib
import heapq
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from svgan.errors import NonFiniteLoss, UserError
from svgan.metrics import fvd, i3d
from svgan.metrics.names import ITERATIONS_PER_SECOND
from svgan.metrics.protocol import PROTOCOLS
from svgan.torch_utils.distributed import SINGLE
from svgan.training import registry
from svgan.training.config import RunConfig
from svgan.training.registry import Source, iterate
from sweeps.promotion import final_evaluation
from sweeps.ray_runtime import resources
from sweeps.ray_runtime.resources import device_name
from sweeps.storage.metric_names import SECONDS_SCORING
from sweeps.storage.plan import Plan
from sweeps.storage.tag_names import OUTCOME, PROTOCOL_LONG, ROLE
from sweeps.tracking.client import ATTEMPTS, DEVICE

if TYPE_CHECKING:
    from mlflow.entities import Run

    from svgan.images.domain import Domain
    from svgan.training.data import Material
    from sweeps.driver.preflight_result import PreflightResult
    from sweeps.tracking.client import Tracking

PATIENCE_MARGIN = 2  # a step beside other trials takes up to twice the fastest of a few
Clock = Callable[[], float]
# Seconds measured on two cores (bench/LOG.md): from Ray's start to the first trial, from the last trial to the
# champion's clip, a trial's start and end, one report (latent distance, checkpoint, MLflow).
STUDY_START, STUDY_END, TRIAL_START, REPORT = 10.0, 15.0, 8.0, 0.5


@dataclass(frozen=True)
class Pace:
    """Seconds of a generator step, of scoring a finished trial (None: unknown), and of everything else in a whole
    trial; and their source.
    """

    step: float
    scoring: float | None
    around: float
    source: str


def pace(plan: Plan, cleared: PreflightResult, tracking: Tracking) -> Pace | None:
    """The pace of earlier trials if there are any, else of this machine; None for a GPU that is not here."""
    device = "cuda" if plan.compute.gpus_per_worker else "cpu"
    here = device == "cpu" or torch.cuda.is_available()
    run = cleared.runs[0]
    wanted = device_name(device) if here and cleared.there.local else f"{device} %"
    found = earlier(tracking, run, wanted)
    if not found and not here:
        return None
    known = learned(found, plan) if found else timed(plan, run, cleared.material, device)
    if plan.judging.clips and known.scoring is None and here:
        return replace(known, scoring=timed_scoring(plan, cleared.material.rendering_domain, device))
    return known


def earlier(tracking: Tracking, run: RunConfig, device: str, most: int = 50) -> list[Run]:
    """Earlier trials of the same recipe, sizes and kind of device, newest first. `device` may end in %."""
    same = {name: str(getattr(run, name)) for name in run.paced}
    usual = {name: str(value) for name, value in (run.quiet | run.unhashed).items()}  # which a run may not name
    clauses = [f"params.`{name}` = '{value}'" for name, value in same.items() if name not in usual]
    clauses += [
        f"tags.`{ROLE}` = 'trial'",
        f"tags.`{DEVICE}` LIKE '{device}'",
        f"metrics.`{ITERATIONS_PER_SECOND}` > 0",
    ]
    found = tracking.client.search_runs([tracking.experiment], filter_string=" and ".join(clauses), max_results=most)
    return [one for one in found if all(one.data.params.get(n, usual[n]) == same[n] for n in same if n in usual)]


def learned(runs: Sequence[Run], plan: Plan) -> Pace:
    """Medians over earlier trials. The time around training and scoring comes from trials without an interruption."""
    step = statistics.median(1 / (run.data.metrics[ITERATIONS_PER_SECOND] * _seeds(run)) for run in runs)
    scored = [
        run.data.metrics[SECONDS_SCORING] / _seeds(run)
        for run in runs
        if SECONDS_SCORING in run.data.metrics and _same_protocol(run, plan)
    ]
    around = [
        (run.info.end_time - run.info.start_time) / 1000
        - float(run.data.params["steps"]) / run.data.metrics[ITERATIONS_PER_SECOND]  # of all seeds together
        - run.data.metrics.get(SECONDS_SCORING, 0)
        for run in runs
        if run.data.tags.get(OUTCOME) == "finished" and run.data.tags.get(ATTEMPTS) == "1" and run.info.end_time
    ]
    return Pace(
        step,
        statistics.median(scored) if scored else None,
        max(0.0, statistics.median(around)) if around else TRIAL_START + REPORT * plan.search.reports,
        f"as {len(runs)} earlier trial{'s' if len(runs) > 1 else ''} took",
    )


def _seeds(run: Run) -> int:
    return int(run.data.params.get("seeds", 1))


def _same_protocol(run: Run, plan: Plan) -> bool:
    return run.data.tags.get(PROTOCOL_LONG) == plan.tags.get(PROTOCOL_LONG)


def timed(
    plan: Plan,
    run: RunConfig,
    material: Material,
    device: str,
    budget: float = 1.0,
    clock: Clock = time.perf_counter,
) -> Pace:
    """Time the fastest of a few iterations of this run here, in about `budget` seconds of `clock`.

    A batch that would take longer is timed in part and scaled up.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(plan.compute.cpus_per_worker)))
    try:
        source = registry.make_source(run, material, device)
        whole = max(1, run.batch // plan.compute.workers)
        step, count = 0.0, 0
        for batch in dict.fromkeys((max(1, whole // 8), whole)):
            if step > budget / 3:
                break
            laps = _laps(replace(run, batch=batch), source, device, budget, clock)
            step, count = min(laps) * whole / batch, len(laps)
    finally:
        torch.set_num_threads(threads)
    return Pace(step, None, TRIAL_START + REPORT * plan.search.reports, f"from {count} iterations timed here")


def _laps(
    run: RunConfig, source: Source, device: str, budget: float, clock: Clock = time.perf_counter, most: int = 4
) -> list[float]:
    state = registry.build_state(run, source.space, {}, device)
    laps: list[float] = []
    while len(laps) < most and sum(laps) < budget:
        started = clock()
        with contextlib.suppress(NonFiniteLoss):  # of a point of the space that diverges at once; it took its time
            iterate(state, source, SINGLE)
        if device == "cuda":
            torch.cuda.synchronize()
        laps.append(clock() - started)
        state.step += 1
    return laps


def timed_scoring(plan: Plan, domain: Domain, device: str) -> float:
    """Seconds of one trial's FVD, short and long, from one clip rendered and measured in every place at once.

    Trials that run side by side share caches, memory and, on most machines, cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(plan.compute.cpus_per_worker)))
    try:
        network = i3d.load(device=device, precision=plan.judging.precision)
        codes = domain.generator.w_avg.expand(i3d.MIN_FRAMES, domain.config.num_layers, -1)

        def one_clip() -> None:
            network(torch.from_numpy(domain.render(codes)[None])).cpu()

        one_clip()
        places = 1 if plan.compute.gpus_per_worker else plan.compute.concurrency
        with ThreadPoolExecutor(places) as pool:
            started = time.perf_counter()
            for lap in [pool.submit(one_clip) for _ in range(places)]:
                lap.result()
            seconds = time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)
    return 2 * plan.judging.clips * seconds * PROTOCOLS["svg-short"].frames / i3d.MIN_FRAMES


def halved(plan: Plan, draws: int = 20, most: int = 100) -> tuple[float, float]:
    """What ASHA leaves of a free trial on average: its share of the steps, and its chance to finish.

    Simulated with trials that come one after another and have random, constant quality. Beyond `most` trials the
    averages no longer change.
    """
    from sweeps.search.asha import among_best

    free = min(plan.search.trials, most) - plan.search.controls
    if free <= 0:
        return 1.0, 1.0
    shares, finished, chance = 0.0, 0, random.Random(0)
    for _ in range(draws):
        merits: dict[int, list[float]] = {rung: [] for rung in plan.search.rungs}
        for number in range(plan.search.controls + free):
            merit, control, reached = chance.random(), number < plan.search.controls, plan.search.steps
            for rung, others in merits.items():
                good = among_best(others, merit, plan.search.reduction)
                others.append(merit)
                if not good and not control:
                    reached = min(rung, reached)
                    break
            if not control:
                shares, finished = shares + reached / plan.search.steps, finished + (reached == plan.search.steps)
    return shares / (draws * free), finished / (draws * free)


@dataclass(frozen=True)
class Forecast:
    """seconds: wall time; trial_hours: of all trials together; finishers: trials expected to finish."""

    seconds: float
    trial_hours: float
    finishers: float


def forecast(plan: Plan, known: Pace) -> Forecast:
    """The study's wall time if its trials are handed out one after another to `concurrency` places."""
    free, training = plan.search.trials - plan.search.controls, plan.search.seconds or plan.search.steps * known.step
    share, chance = halved(plan)
    scoring = (known.scoring or 0.0) if plan.judging.clips else 0.0
    whole = known.around + plan.search.seeds * (training + scoring)
    mean = known.around + plan.search.seeds * (share * training + chance * scoring)
    places = [0.0] * plan.compute.concurrency
    for length in [whole] * plan.search.controls + [mean] * free:
        heapq.heapreplace(places, places[0] + length)
    hours = (whole * plan.search.controls + mean * free) / 3600
    return Forecast(
        STUDY_START + max(places) + STUDY_END + final(plan, known), hours, plan.search.controls + chance * free
    )


def final(plan: Plan, known: Pace) -> float:
    """Seconds of the final evaluation, if the study asks for one; a cluster's workers share it."""
    if not final_evaluation.asked(plan) or not plan.judging.clips or known.scoring is None:
        return 0.0
    clips = (
        (final_evaluation.FINALISTS + 1)
        * plan.judging.promotion_seeds
        * (plan.judging.promotion_clips or plan.judging.clips)
    )
    places = plan.compute.workers * plan.compute.concurrency if resources.joined() else 1
    return clips * known.scoring / (2 * plan.judging.clips) / places


def check_patience(plan: Plan, known: Pace | None) -> None:
    """Raises UserError if a worker would be killed in the middle of a usual step, or of a batch of clips."""
    if known is None:
        return
    batch = fvd.BATCH["cuda" if plan.compute.gpus_per_worker else "cpu"]
    clips = batch * known.scoring / (2 * plan.judging.clips) if known.scoring and plan.judging.clips else 0.0
    longest, what = max((known.step, "a step"), (clips, f"FVD of {batch} clips"))
    least = PATIENCE_MARGIN * longest / 60
    if plan.compute.patience < least:
        raise UserError(
            f"--patience {plan.compute.patience:g}: {what} takes about {duration(longest)} ({known.source}), and a "
            f"worker is killed after that many minutes without one; give at least {math.ceil(least)}"
        )


def describe(plan: Plan, known: Pace | None) -> str:
    """The forecast in one line."""
    if known is None:
        return "time: not known, as no trial of this recipe ran on such a GPU in this MLflow and none is here to time"
    coming = forecast(plan, known)
    kind = "GPU" if plan.compute.gpus_per_worker else "core"
    hours = coming.trial_hours * plan.compute.workers * (plan.compute.gpus_per_worker or plan.compute.cpus_per_worker)
    fvd = "FVD, whose time is not known" if known.scoring is None else f"{known.scoring:.0f} s of FVD"
    scoring = f" and {fvd}" if plan.judging.clips else ""
    judged = f", {duration(last)} of it for the final judgement" if (last := final(plan, known)) else ""
    training = f"{plan.search.seconds:g} s of training" if plan.search.seconds else f"{known.step:.2g} s a step"
    return (
        f"time: about {duration(coming.seconds)}{judged} and {hours:.2g} {kind}-hours if some {coming.finishers:.0f} "
        f"trials run to the end, with {training}{scoring}, {known.source}"
    )


def duration(seconds: float) -> str:
    """Seconds in readable form: 40 s, 9 min, 3.5 h, 2.1 days."""
    for unit, scale, most in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 129600)):
        if seconds < most:
            return f"{seconds / scale:.2g} {unit}" if unit == "h" else f"{seconds / scale:.0f} {unit}"
    return f"{seconds / 86400:.2g} days"
