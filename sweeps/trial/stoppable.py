"""An iteration that the watchdog watches and that a stop request can end."""

from __future__ import annotations

from torch import Tensor

from svgan.torch_utils.distributed import Process
from svgan.training.registry import Iteration, Source
from svgan.training.state import State
from sweeps.storage.life import STEP
from sweeps.storage.stop_request import StopWatch
from sweeps.trial.watchdog import Watchdog

AGREE_EVERY = 16  # steps between two exchanges about a stop, where there is more than one worker


class Halted(Exception):
    """A stop was requested, and all ranks agreed on this step. state: the whole state, None after training."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state


class StoppableIteration:
    """An iteration that beats the pulse, and raises Halted instead of the first step after a stop was asked for."""

    def __init__(self, inner: Iteration, pulse: Watchdog, stopping: StopWatch) -> None:
        self.inner, self.pulse, self.stopping = inner, pulse, stopping
        self.several = stopping.plan.search.seeds > 1

    def __call__(self, state: State, source: Source, process: Process) -> dict[str, Tensor]:
        what = f"{STEP} of seed {state.config.seed}:" if self.several else STEP
        self.pulse.beat(what, state.step, state.config.steps)
        if self._agreed(state.step, process):
            raise Halted(state)
        return self.inner(state, source, process)

    def _agreed(self, step: int, process: Process) -> bool:
        if process.world == 1:
            return self.stopping()
        return step % AGREE_EVERY == 0 and process.any(self.stopping())

    def begins(self, what: str) -> None:
        """Report the beginning of a part that has no steps."""
        self.pulse.beat(what)

    def scoring(self, stage: str, done: int, total: int) -> None:
        """Report the progress of the measurements that rank 0 makes after training."""
        self.pulse.beat(stage, done, total)
        if self.stopping():
            raise Halted
