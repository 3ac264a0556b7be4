"""What each worker of a trial runs: svgan's training loop, with reports to Ray and MLflow, then FVD and a clip."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import ray.train

from svgan.errors import NonFiniteLoss, UserError
from svgan.io import transfers
from svgan.torch_utils.distributed import SINGLE, Process, current_process
from svgan.training.registry import iterate
from sweeps.ray_runtime.notice import Notice
from sweeps.storage import events
from sweeps.storage.plan import Plan
from sweeps.storage.stop_request import StopWatch
from sweeps.storage.trial_outcome import FAILED
from sweeps.trial import trial_hours
from sweeps.trial.checkpoint_timer import CheckpointTimer
from sweeps.trial.life_thread import LifeThread
from sweeps.trial.multi_seed import MultiSeedTraining
from sweeps.trial.rank import Rank
from sweeps.trial.reporter import OtherRanksReporter, RankZeroReporter
from sweeps.trial.stoppable import Halted, StoppableIteration
from sweeps.trial.training import TrialTraining
from sweeps.trial.watchdog import Watchdog


def train_loop(config: dict[str, Any]) -> dict[str, Any]:
    """Run one worker; rank 0's return value is the trial's outcome.

    - `failed`: all ranks agree on the failure (a loss that is not finite; bad input, with one worker). It is not
      retried.
    - `halted`: a stop was requested.
    - `left`: the workers were told that they will be taken away, and kept their state. `controller.run_trial` starts
      others.
    - Anything else raises, and `controller.run_trial` starts the workers again from the checkpoint.
    """
    plan, context, number = Plan.from_json(config["plan"]), ray.train.get_context(), int(config["number"])
    rank = context.get_world_rank()
    watchdog = Watchdog(60 * plan.compute.patience, f"rank {rank}", lambda text: events.tell(plan, number, text))
    try:
        with watchdog as pulse, LifeThread(plan, number, rank, pulse), transfers.heard_by(pulse.beat):
            timer = CheckpointTimer(0 if rank else plan.compute.checkpoint_minutes)
            return run(Rank(config, plan, StoppableIteration(iterate, pulse, StopWatch(plan), Notice(), timer)))
    except NonFiniteLoss as error:
        return {FAILED: f"NonFiniteLoss: {error}"}
    except UserError as error:
        if context.get_world_size() > 1:
            raise
        return {FAILED: str(error)}


def run(rank: Rank) -> dict[str, Any]:
    """Train this rank's part of the trial, of one seed or of several; returns the trial's outcome on rank 0."""
    training = TrialTraining.from_config(rank.plan, rank.config["run"], rank.device)
    rank.iteration.begins("reading the checkpoint")
    process = current_process(rank.device) if rank.world > 1 else SINGLE
    rank.plan.scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=rank.plan.scratch) as folder:
        try:
            if rank.plan.search.seeds > 1:
                return MultiSeedTraining(rank, training, process, Path(folder)).run()
            return run_one_seed(rank, training, process, Path(folder))
        finally:
            rank.iteration.timer.settle()


def run_one_seed(rank: Rank, training: TrialTraining, process: Process, scratch: Path) -> dict[str, Any]:
    """Train from the last checkpoint to the end, a stop, a notice or --trial-hours; returns the trial's outcome on rank
    0.
    """
    state = rank.restored(scratch)
    rank.iteration.begins("opening the log")
    reporter: RankZeroReporter | OtherRanksReporter = OtherRanksReporter()
    if rank.rank == 0:
        begun = 0 if state is None else state.step
        reporter = RankZeroReporter(
            rank.config, rank.plan, training.material, scratch, rank.meter, rank.iteration.timer, begun
        )
    if state is not None and state.history:
        reporter.resume(state)
    rank.iteration.keep = partial(reporter.keep, wait=False)
    try:
        state = trial_hours.train(rank, training, reporter, state, process)
        return reporter.finish(state, rank.iteration)
    except Halted as halted:
        if halted.state is not None:
            reporter.keep(halted.state)
        return rank.ended(halted)
