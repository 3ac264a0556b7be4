"""A trial of several seeds: the seeds are trained in turn, from one report to the next.

Training is a function of (configuration, seed, step), so each seed has the figures of a run of its own. Rungs and
pruning use the mean over seeds. The objective is the mean of the seeds' best values.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train

from svgan.errors import NonFiniteLoss, UserError
from svgan.metrics.names import ITERATIONS_PER_SECOND, LATENT_FD
from svgan.sampling.sampler import Sampler
from svgan.torch_utils.distributed import Process
from svgan.training import checkpoint
from svgan.training.registry import build_state
from svgan.training.state import State
from sweeps.storage.metric_names import LATENT_FD_BEST, SECONDS_SCORING, STEPS_DONE
from sweeps.storage.tag_names import SEED
from sweeps.storage.trial_outcome import FINISHED, REPORTS, STEP
from sweeps.tracking.client import of_seed
from sweeps.trial import trial_hours
from sweeps.trial.artifacts import figures_of, log_clip, log_sheet, score
from sweeps.trial.reporter import BEST, STATE, RankZeroReporter
from sweeps.trial.stoppable import Halted
from sweeps.trial.training import TrialTraining, running_minima, save_with_best

if TYPE_CHECKING:
    import torch

    from sweeps.trial.rank import Rank
    from sweeps.trial.stoppable import StoppableIteration

CONFIDENCE = 0.95


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of two or more values, and the ends of its 95 % interval by Student's t."""
    from scipy.special import stdtrit

    mean = statistics.fmean(values)
    reach = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
    half = reach * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def over_seeds(name: str, values: dict[int, float]) -> dict[str, float]:
    """A figure's mean under its own name, its interval, and each seed's value."""
    mean, low, high = interval(list(values.values()))
    return {name: mean, f"{name}_low": low, f"{name}_high": high} | {of_seed(name, s): v for s, v in values.items()}


def ends(steps: int, every: int) -> list[int]:
    """The steps at which a run of `steps` steps reports."""
    return [*range(every, steps, every), steps]


def load_all(
    folders: Iterable[Path], seeds: Sequence[int], device: torch.device | str, tell: Callable[[str], None]
) -> dict[int, State]:
    """Load every seed's state from the first folder in which all are whole; {} if there is no folder.

    Raises the first folder's error if no folder is whole.
    """
    first: checkpoint.Damaged | None = None
    for folder in folders:
        try:
            return {seed: checkpoint.load(_own(folder, seed) / STATE, device) for seed in seeds}
        except checkpoint.Damaged as error:
            tell(f"{error}; trying the checkpoint before it")
            first = first or error
    if first is not None:
        raise first
    return {}


def _own(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}"


class SpeedReporter:
    """A reporter for one seed: it keeps the speed, because the trial reports once all seeds have reached the step."""

    def __init__(self) -> None:
        self.speed = math.inf

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        self.speed = metrics[ITERATIONS_PER_SECOND]


class MultiSeedTraining:
    """One rank of a trial of several seeds."""

    def __init__(self, rank: Rank, training: TrialTraining, process: Process, scratch: Path) -> None:
        self.rank, self.training, self.process, self.scratch = rank, training, process, scratch
        self.seeds = [training.run.seed + k for k in range(training.plan.search.seeds)]
        self.states = self._restored()
        self.first = None
        if rank.rank == 0:
            begun = min(state.step for state in self.states.values())
            self.first = SeedsReporter(
                rank.config, training.plan, training.material, scratch, rank.meter, rank.iteration.timer, begun
            )
        rank.iteration.keep = partial(self._keep, wait=False)

    def _restored(self) -> dict[int, State]:
        here = self.scratch / "restored"
        states = load_all(self.rank.kept(here), self.seeds, self.rank.device, self.rank.tell)
        for seed in self.seeds:
            if (_own(here, seed) / BEST).exists():
                _own(self.scratch, seed).mkdir()
                shutil.move(_own(here, seed) / BEST, _own(self.scratch, seed) / BEST)
        shutil.rmtree(here, ignore_errors=True)
        run, source, meta = self.training.run, self.training.source, self.training.material.meta
        return states or {
            seed: build_state(dataclasses.replace(run, seed=seed), source.space, meta, self.rank.device)
            for seed in self.seeds
        }

    def run(self) -> dict[str, Any]:
        try:
            for end in ends(self.training.run.steps, self.training.report_every):
                if any(state.step < end for state in self.states.values()):
                    speed = 1 / sum(1 / self._advance(seed, end) for seed in self.seeds)
                    self._report(end, speed)
                if self._hours_used_up():
                    break
            if self.first is None:
                return {}
            return self.first.finish_all(self.states, self.rank.iteration)
        except Halted as halted:
            if halted.state is not None:
                self._keep(halted.state)
            return self.rank.ended(halted)

    def _advance(self, seed: int, end: int) -> float:
        """Train a seed up to a step; return its steps per second, infinity if it was there already."""
        taken, run = SpeedReporter(), dataclasses.replace(self.training.run, seed=seed)
        part = dataclasses.replace(self.training, run=dataclasses.replace(run, steps=end))
        try:
            state = part.train(taken, state=self.states[seed], process=self.process, iteration=self.rank.iteration)
        except NonFiniteLoss as error:
            raise NonFiniteLoss(f"seed {seed}: {error}") from None
        state.config = run
        self.states[seed] = state
        return taken.speed

    def _hours_used_up(self) -> bool:
        """Whether --trial-hours is used up, asked where all seeds stand at a report or beyond it."""
        if self.rank.plan.compute.trial_hours is None or not self.process.any(trial_hours.used_up(self.rank)):
            return False
        trial_hours.tell(self.rank, min(state.step for state in self.states.values()), self.training.run.steps)
        return True

    def _report(self, step: int, speed: float) -> None:
        if self.first:
            self.first.report_all(step, self.states, speed)
        else:
            ray.train.report({STEP: step})

    def _keep(self, cut: State, *, wait: bool = True) -> None:
        """Save every seed where it stands. cut: the state of the seed that is being trained."""
        if self.first:
            self.first.keep_all(self.states, wait=wait)
        else:
            cut.sums.means()  # raises on every rank for what rank 0 cannot save
            ray.train.report({STEP: cut.step})


class SeedsReporter(RankZeroReporter):
    """The reporter of rank 0: means with intervals, each seed's figures, and a model per improvement of a seed."""

    def report_all(self, step: int, states: dict[int, State], speed: float) -> None:
        latest = {seed: state.history[-1] for seed, state in states.items()}
        for seed, figures in latest.items():
            if not math.isfinite(figures[LATENT_FD]):
                raise UserError(f"latent_fd of seed {seed} at step {step} is {figures[LATENT_FD]}; it has diverged")
        for seed, state in states.items():
            _own(self.scratch, seed).mkdir(exist_ok=True)
            improved = save_with_best(
                state, _own(self.scratch / "report", seed) / STATE, _own(self.scratch, seed) / BEST
            )
            if improved:
                self.log.model(step, _own(self.scratch, seed) / BEST, self.plan.tags | {SEED: str(seed)}, self.params)
            value = {of_seed(LATENT_FD, seed): latest[seed][LATENT_FD]}
            self.log.metrics(step, value, step if improved else None, seed=str(seed))
        names = set.intersection(*(set(figures) for figures in latest.values())) - {LATENT_FD, "step"}
        means = {name: statistics.fmean(figures[name] for figures in latest.values()) for name in sorted(names)}
        so_far = figures_so_far(states)
        spread = over_seeds(LATENT_FD, {seed: figures[LATENT_FD] for seed, figures in latest.items()})
        own = {ITERATIONS_PER_SECOND: speed, STEPS_DONE: step}
        self.log.metrics(step, means | spread | {k: v for k, v in so_far.items() if k not in (STEP, LATENT_FD)} | own)
        first = states[min(states)]
        if step in self.plan.search.rungs and step < first.config.steps:
            log_sheet(
                self.log,
                Sampler.from_state(first),
                self.material,
                first.config.window,
                self.plan.search.seed,
                self.scratch,
            )
        self._tell_ray(self.scratch / "report", states, so_far | {REPORTS: minima(states)})

    def keep_all(self, states: dict[int, State], *, wait: bool) -> None:
        """As `keep`, for all seeds."""
        began, folder = time.monotonic(), Path(tempfile.mkdtemp(dir=self.scratch))
        for seed, state in states.items():
            checkpoint.save(state, _own(folder, seed) / STATE)
        self._tell_ray(folder, states, {STEP: min(state.step for state in states.values())}, wait)
        if not wait:
            self.timer.kept(time.monotonic() - began, folder)

    def _tell_ray(self, folder: Path, states: dict[int, State], figures: dict[str, Any], wait: bool = True) -> None:
        for seed in states:
            if (_own(self.scratch, seed) / BEST).exists():
                shutil.copytree(_own(self.scratch, seed) / BEST, _own(folder, seed) / BEST)
        self._report(folder, figures, wait)

    def finish_all(self, states: dict[int, State], iteration: StoppableIteration) -> dict[str, Any]:
        """Measure every seed's best generator, log a clip of the best seed, and return the outcome."""
        outcome, best, began = figures_so_far(states), best_of(states), time.perf_counter()
        device = next(iter(states.values())).device
        samplers = {seed: Sampler.load(_own(self.scratch, seed) / BEST, device) for seed in states}
        shown = min(best, key=lambda seed: best[seed][LATENT_FD])
        log_clip(self.log, samplers[shown], self.material, self.plan.search.seed, self.scratch, iteration.scoring)
        if self.plan.judging.clips:
            scored, measured = {}, figures_of(self.plan)
            for seed, sampler in samplers.items():
                known = self.log.figures([of_seed(name, seed) for name in measured])
                figures = {name: known[of_seed(name, seed)] for name in measured if of_seed(name, seed) in known}
                if not figures:
                    figures = score(sampler, self.material, self.plan, iteration.scoring)
                    named, at = {of_seed(name, seed): v for name, v in figures.items()}, int(best[seed]["step"])
                    self.log.metrics(at, named, at, seed=str(seed))
                scored[seed] = figures
            names = [name for name in measured if all(name in figures for figures in scored.values())]
            spread: dict[str, float] = {}
            for name in names:
                mean, low, high = interval([figures[name] for figures in scored.values()])
                spread |= {name: mean, f"{name}_low": low, f"{name}_high": high}
            self.log.metrics(int(outcome[STEP]), spread | {SECONDS_SCORING: time.perf_counter() - began})
            outcome |= {name: spread[name] for name in names}
        return {**outcome, **self.meter.seconds_so_far(), REPORTS: minima(states), FINISHED: True}


def best_of(states: dict[int, State]) -> dict[int, dict[str, float]]:
    """Each seed's report with the lowest latent_fd."""
    return {seed: min(state.history, key=lambda report: report[LATENT_FD]) for seed, state in states.items()}


def minima(states: dict[int, State]) -> list[tuple[int, float]]:
    """The mean over seeds of the lowest latent_fd so far at each report, as (step, value)."""
    each = [dict(running_minima(state.history)) for state in states.values()]
    return [(step, statistics.fmean(one[step] for one in each)) for step in each[0] if all(step in one for one in each)]


def figures_so_far(states: dict[int, State]) -> dict[str, float]:
    """The step, the mean latent_fd there, and the mean of the seeds' lowest latent_fd with its interval."""
    mean, low, high = interval([report[LATENT_FD] for report in best_of(states).values()])
    return {
        STEP: min(state.step for state in states.values()),
        LATENT_FD: statistics.fmean(state.history[-1][LATENT_FD] for state in states.values()),
        LATENT_FD_BEST: mean,
        f"{LATENT_FD_BEST}_low": low,
        f"{LATENT_FD_BEST}_high": high,
    }
