"""Reporters of a trial's ranks: rank 0 sends figures to MLflow and checkpoints to Ray Train."""

from __future__ import annotations

import math
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import ray.train
from ray.train import CheckpointUploadMode

from svgan.errors import UserError
from svgan.metrics.names import ITERATIONS_PER_SECOND, LATENT_FD
from svgan.sampling.sampler import Sampler
from svgan.training import checkpoint
from svgan.training.data import Material
from svgan.training.state import State
from sweeps.ray_runtime.resources import device_name
from sweeps.storage import events
from sweeps.storage.metric_names import BEST_STEP, LATENT_FD_BEST, SECONDS_SCORING, STEPS_DONE
from sweeps.storage.plan import Plan
from sweeps.storage.trial_outcome import FINISHED, REPORTS, STEP
from sweeps.storage.usage import Meter
from sweeps.tracking.trial_log import TrialLog, attempt
from sweeps.trial.artifacts import figures_of, log_clip, log_sheet, score
from sweeps.trial.checkpoint_timer import CheckpointTimer
from sweeps.trial.stoppable import StoppableIteration
from sweeps.trial.training import figures_so_far, running_minima, save_with_best

STATE, BEST = "state", "best"


class OtherRanksReporter:
    """The reporter of ranks above 0: it takes part in Ray's collective report, and sends nothing."""

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        ray.train.report({STEP: step})

    def keep(self, state: State, *, wait: bool = True) -> None:
        state.sums.means()  # raises on every rank for what rank 0 cannot save
        ray.train.report({STEP: state.step})

    def resume(self, state: State) -> None:
        ray.train.report({STEP: state.step})

    def finish(self, state: State, iteration: StoppableIteration) -> dict[str, Any]:
        return {}


class RankZeroReporter:
    """The reporter of rank 0: figures go to MLflow by step, a model per improvement, and the state to Ray Train.

    A checkpoint holds both the state and the best generator so far, so that a restart needs nothing else.
    """

    def __init__(
        self,
        config: dict[str, Any],
        plan: Plan,
        material: Material,
        scratch: Path,
        meter: Meter,
        timer: CheckpointTimer,
        begun: int,
    ) -> None:
        """begun: the step of the checkpoint from which it goes on, 0 if there is none."""
        self.meter, self.timer = meter, timer
        self.plan, self.material, self.scratch, self.params = plan, material, scratch, config["params"]
        self.log = TrialLog(plan, config["number"])
        times = attempt(plan, config["number"])
        several = {"seeds": plan.search.seeds} if plan.search.seeds > 1 else {}
        self.log.open(config["run"] | several, times, device_name(material.domain.device))
        if times > 1:
            where = f"on {socket.gethostname()}, from step {begun}"
            events.tell(plan, config["number"], f"workers started again ({times} times now) {where}")

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        if not math.isfinite(metrics[LATENT_FD]):
            raise UserError(f"latent_fd at step {step} is {metrics[LATENT_FD]}; the generator has diverged")
        so_far, model = figures_so_far(state.history), None
        folder = self.scratch / "report"
        if save_with_best(state, folder / STATE, self.scratch / BEST):
            self.log.model(step, self.scratch / BEST, self.plan.tags, self.params)
            model = step
        figures = {**metrics, LATENT_FD_BEST: so_far[LATENT_FD_BEST], STEPS_DONE: step}
        self.log.metrics(step, figures, model)
        if step in self.plan.search.rungs and step < state.config.steps:
            log_sheet(
                self.log,
                Sampler.from_state(state),
                self.material,
                state.config.window,
                self.plan.search.seed,
                self.scratch,
            )
        self._report(
            folder,
            {**so_far, ITERATIONS_PER_SECOND: metrics[ITERATIONS_PER_SECOND], REPORTS: running_minima(state.history)},
        )

    def resume(self, state: State) -> None:
        """Repeat the reports of a state that training continues from: a driver that died may have missed some.

        MLflow gets what it lacks, for it may have been restored from a backup.
        """
        best = int(figures_so_far(state.history)[BEST_STEP])
        if (self.scratch / BEST).exists():
            self.log.model(best, self.scratch / BEST, self.plan.tags, self.params)
        for report, (step, least) in zip(state.history, running_minima(state.history), strict=True):
            figures = {name: value for name, value in report.items() if name != STEP}
            figures |= {LATENT_FD_BEST: least, STEPS_DONE: step}
            self.log.metrics(step, figures, best if step == best else None)
        told = {**figures_so_far(state.history), **self.meter.seconds_so_far(), REPORTS: running_minima(state.history)}
        ray.train.report(told)

    def keep(self, state: State, *, wait: bool = True) -> None:
        """Save a state between two reports. The next report carries its figures. wait: until it is uploaded."""
        began, folder = time.monotonic(), Path(tempfile.mkdtemp(dir=self.scratch))
        checkpoint.save(state, folder / STATE)
        self._report(folder, {STEP: state.step}, wait)
        if not wait:
            self.timer.kept(time.monotonic() - began, folder)

    def _report(self, folder: Path, figures: dict[str, Any], wait: bool = True) -> None:
        if (self.scratch / BEST).exists():
            shutil.copytree(self.scratch / BEST, folder / BEST)
        ray.train.report(
            figures | self.meter.seconds_so_far(),
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_upload_mode=CheckpointUploadMode.SYNC if wait else CheckpointUploadMode.ASYNC,
        )
        if wait:
            shutil.rmtree(folder)  # else Ray removes it once it is uploaded
        self.timer.restart()

    def finish(self, state: State, iteration: StoppableIteration) -> dict[str, Any]:
        """Measure the trial's best generator, log a clip of it, and return the outcome."""
        outcome, began = figures_so_far(state.history), time.perf_counter()
        best = int(outcome[BEST_STEP])
        sampler = Sampler.load(self.scratch / BEST, state.device)
        log_clip(self.log, sampler, self.material, self.plan.search.seed, self.scratch, iteration.scoring)
        if self.plan.judging.clips:
            figures = self.log.figures(figures_of(self.plan))
            if not figures:
                figures = score(sampler, self.material, self.plan, iteration.scoring)
                self.log.metrics(best, figures, best)
                self.log.metrics(best, {SECONDS_SCORING: time.perf_counter() - began})
            outcome |= figures
        return {**outcome, **self.meter.seconds_so_far(), REPORTS: running_minima(state.history), FINISHED: True}
