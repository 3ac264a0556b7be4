"""The training loop. It knows neither Ray nor MLflow: metrics go to a reporter, states to a checkpoint manager."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from svgan.metrics.names import ITERATIONS_PER_SECOND
from svgan.torch_utils import rng
from svgan.torch_utils.distributed import SINGLE, Process
from svgan.training.checkpoint_manager import Keeper, NullKeeper
from svgan.training.config import RunConfig
from svgan.training.registry import Iteration, Source, build_state, iterate
from svgan.training.reporter import NullReporter, Reporter
from svgan.training.state import State, Sums


def train(
    config: RunConfig,
    source: Source,
    *,
    state: State | None = None,
    meta: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
    keeper: Keeper | None = None,
    process: Process = SINGLE,
    evaluate: Callable[[State], dict[str, float]] | None = None,
    report_every: int = 50,
    device: torch.device | str = "cpu",
    iteration: Iteration = iterate,
) -> State:
    """Train until config.steps, from `state`, else from the keeper's latest checkpoint, else from the start.

    Every `report_every` steps and at the end the loop makes a report:

    - It averages the metrics since the last report, and rank 0 adds those of `evaluate` (without gradients).
    - The metrics go to the state's history and the reporter; then rank 0 saves the state to the keeper.

    meta is stored in the state and so in checkpoints. Killed and resumed training equals uninterrupted training in
    every bit on CPUs of one kind with as many threads.

    Raises UserError for a batch that the workers cannot share or a state of another run, and NonFiniteLoss on all
    ranks.
    """
    reporter, keeper = reporter or NullReporter(), keeper or NullKeeper()
    rng.own_slice(config.batch, process.rank, process.world)  # refuses a batch that the workers cannot share
    state = state or keeper.latest(device) or build_state(config, source.space, meta, device)
    state.continues(config)
    begun, started = state.step, time.perf_counter()
    while state.step < config.steps:
        state.sums.add(iteration(state, source, process))
        state.step += 1
        if state.step % report_every == 0 or state.step == config.steps:
            metrics, state.sums = state.sums.means(), Sums()
            speed = (state.step - begun) / (time.perf_counter() - started)
            if evaluate is not None and process.rank == 0:
                with torch.no_grad():
                    metrics |= evaluate(state)
            state.history.append({"step": state.step, **metrics})
            reporter.report(state.step, metrics | {ITERATIONS_PER_SECOND: speed}, state)
            if process.rank == 0:
                keeper.save(state)
            begun, started = state.step, time.perf_counter()
    return state
