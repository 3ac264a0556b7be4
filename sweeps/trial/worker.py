"""What each worker of a trial runs: svgan's own loop, reporting to Ray and MLflow, and at the end FVD and a clip."""

from __future__ import annotations

import math
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.train
import torch

from svgan.errors import NonFiniteLoss, UserError
from svgan.sampling.sampler import Sampler
from svgan.torch_utils.distributed import SINGLE, current_process
from svgan.training import checkpoint
from svgan.training.checkpoint_manager import last_whole
from svgan.training.data import Material
from svgan.training.registry import iterate
from svgan.training.state import State
from sweeps.ray_runtime.resources import device_name
from sweeps.reports.trial_table import SPEED, STEPS_DONE
from sweeps.search.optuna_store import REPORTS, STEP
from sweeps.storage import events, study_files
from sweeps.storage.plan import Plan
from sweeps.storage.stop_request import Watch
from sweeps.storage.trial_outcome import FAILED, FINISHED, HALTED
from sweeps.storage.usage import Meter
from sweeps.tracking.trial_log import TrialLog, attempt
from sweeps.trial.artifacts import figures_of, log_clip, log_sheet, score
from sweeps.trial.stoppable import Attended, Halted
from sweeps.trial.training import Setting, figures_so_far, running_minima, save_with_best
from sweeps.trial.watchdog import Pulse

STATE, BEST = "state", "best"


def train_loop(config: dict[str, Any]) -> dict[str, Any]:
    """One worker's whole life; rank 0's return value is the trial's outcome.

    What all ranks agree on (a loss that is not finite; on a single worker also bad input) is returned as `failed`,
    so that it is not retried; a stop that was asked for as `halted`; anything else raises, and Ray Train starts the
    workers again from the checkpoint.
    """
    plan, context = Plan.from_json(config["plan"]), ray.train.get_context()
    who = f"rank {context.get_world_rank()}"
    try:
        with Pulse(60 * plan.patience, who, lambda text: events.tell(plan, config["number"], text)) as pulse:
            return Worker(config, plan, Attended(iterate, pulse, Watch(plan))).run()
    except NonFiniteLoss as error:
        return {FAILED: f"NonFiniteLoss: {error}"}
    except UserError as error:
        if context.get_world_size() > 1:
            raise
        return {FAILED: str(error)}


class Worker:
    """One rank of a trial."""

    def __init__(self, config: dict[str, Any], plan: Plan, attended: Attended) -> None:
        context = ray.train.get_context()
        self.config, self.plan, self.attended, self.number = config, plan, attended, int(config["number"])
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.device = _device(plan)
        self.meter = Meter(plan, self.number)

    def run(self) -> dict[str, Any]:
        setting = Setting.of(self.plan, self.config["run"], self.device)
        process = current_process(self.device) if self.world > 1 else SINGLE
        self.plan.scratch.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.plan.scratch) as folder:
            scratch = Path(folder)
            if self.plan.seeds > 1:
                from sweeps.trial.multi_seed import Seeded

                return Seeded(self, setting, process, scratch).run()
            state = self.restored(scratch)
            first = self.rank == 0
            reporter = (
                RankZeroReporter(self.config, self.plan, setting.material, scratch, self.meter)
                if first
                else OtherRanksReporter()
            )
            try:
                state = setting.train(reporter, state=state, process=process, iteration=self.attended)
                return reporter.finish(state, self.attended)
            except Halted as halted:
                if halted.state is not None:
                    reporter.keep(halted.state)
                return {HALTED: True}

    def restored(self, scratch: Path) -> State | None:
        """The state of the trial's last whole checkpoint, its best generator put back into scratch; None at a first
        start. A damaged one is told of, and the one before it is used."""
        here = scratch / "restored"
        state = last_whole((folder / STATE for folder in self.kept(here)), self.device, self.tell)
        if (here / BEST).exists():
            shutil.move(here / BEST, scratch / BEST)
        shutil.rmtree(here, ignore_errors=True)
        return state

    def kept(self, here: Path) -> Iterator[Path]:
        """The trial's checkpoints, newest first, each fetched into `here` when its turn comes."""
        kept = ray.train.get_checkpoint()
        if kept is None:
            return
        kept.to_directory(str(here))
        yield here
        folder = study_files.place(self.plan, f"train-{self.number:04d}")
        others = [name for name in study_files.names(folder) if name.startswith("checkpoint_2")]
        for name in sorted(others, reverse=True):
            if name != Path(kept.path).name:
                shutil.rmtree(here)
                study_files.download(f"{folder}/{name}", here)
                yield here

    def tell(self, text: str) -> None:
        """A line for the user, from one rank alone."""
        if self.rank == 0:
            events.tell(self.plan, self.number, text)


def _device(plan: Plan) -> torch.device:
    torch.set_num_threads(max(1, int(plan.cpus_per_worker)))
    if not plan.gpus_per_worker:
        return torch.device("cpu")
    from ray.train.torch import get_device

    return get_device()


class OtherRanksReporter:
    """Ranks above 0 only take their part in Ray's collective report."""

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        ray.train.report({STEP: step})

    def keep(self, state: State) -> None:
        ray.train.report({STEP: state.step})

    def finish(self, state: State, attended: Attended) -> dict[str, Any]:
        return {}


class RankZeroReporter:
    """Rank 0: figures to MLflow by step, a model per improvement, the whole state to Ray Train as its checkpoint.

    What Ray keeps holds both the state and the best generator so far, so that a restart needs nothing else.
    """

    def __init__(self, config: dict[str, Any], plan: Plan, material: Material, scratch: Path, meter: Meter) -> None:
        self.meter = meter
        self.plan, self.material, self.scratch, self.params = plan, material, scratch, config["params"]
        self.log = TrialLog(plan, config["number"])
        times = attempt(plan, config["number"])
        several = {"seeds": plan.seeds} if plan.seeds > 1 else {}
        self.log.open(config["run"] | several, times, device_name(material.domain.device))
        if times > 1:
            events.tell(plan, config["number"], f"workers started again ({times} times now) on {socket.gethostname()}")

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        if not math.isfinite(metrics["latent_fd"]):
            raise UserError(f"latent_fd at step {step} is {metrics['latent_fd']}; the generator has diverged")
        so_far, model = figures_so_far(state.history), None
        folder = self.scratch / "report"
        if save_with_best(state, folder / STATE, self.scratch / BEST):
            self.log.model(step, self.scratch / BEST, self.plan.tags, self.params)
            model = step
        figures = {**metrics, "latent_fd_best": so_far["latent_fd_best"], STEPS_DONE: step}
        self.log.metrics(step, figures, model)
        if step in self.plan.rungs and step < state.config.steps:
            log_sheet(self.log, Sampler.of(state), self.material, state.config.window, self.plan.seed, self.scratch)
        self._report(folder, {**so_far, SPEED: metrics[SPEED], REPORTS: running_minima(state.history)})

    def keep(self, state: State) -> None:
        """Keep a state between two reports; its figures are told at the next one."""
        folder = self.scratch / "report"
        checkpoint.save(state, folder / STATE)
        self._report(folder, {STEP: state.step})

    def _report(self, folder: Path, figures: dict[str, Any]) -> None:
        if (self.scratch / BEST).exists():
            shutil.copytree(self.scratch / BEST, folder / BEST)
        ray.train.report(figures | self.meter.told(), checkpoint=ray.train.Checkpoint.from_directory(folder))
        shutil.rmtree(folder)

    def finish(self, state: State, attended: Attended) -> dict[str, Any]:
        """Score the trial's best generator, log a clip of it, and say the outcome."""
        outcome, began = figures_so_far(state.history), time.perf_counter()
        best = int(outcome["best_step"])
        sampler = Sampler.load(self.scratch / BEST, state.device)
        attended.scoring("clip", 0, 1)
        log_clip(self.log, sampler, self.material, self.plan.seed, self.scratch)
        attended.scoring("clip", 1, 1)
        if self.plan.clips:
            figures = self.log.figures(figures_of(self.plan))
            if not figures:
                figures = score(sampler, self.material, self.plan, state.device, attended.scoring)
                self.log.metrics(best, figures, best)
                self.log.metrics(best, {"seconds_scoring": time.perf_counter() - began})
            outcome |= figures
        return {**outcome, **self.meter.told(), REPORTS: running_minima(state.history), FINISHED: True}
