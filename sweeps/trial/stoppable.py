"""An iteration that the watchdog watches, that keeps its state now and then, and that a stop or a notice can end."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum

from torch import Tensor

from svgan.torch_utils.distributed import Process
from svgan.training.registry import Iteration, Source
from svgan.training.state import State
from sweeps.ray_runtime.notice import Notice
from sweeps.storage.life import STEP
from sweeps.storage.stop_request import StopWatch
from sweeps.trial.checkpoint_timer import CheckpointTimer
from sweeps.trial.watchdog import Watchdog

AGREE_EVERY = 16  # the most steps between two exchanges about what to do, where there is more than one worker
AGREE_SECONDS = 5.0  # the most time between them, but for a longer step: a notice is to be heeded well within 30 s


class Order(IntEnum):
    """What all ranks do before the next step: the greatest that any rank asks for."""

    GO_ON = 0
    KEEP = 1
    LEAVE = 2
    HALT = 3


class Halted(Exception):
    """All ranks agreed to end at this step. state: the whole state, None after training. leaving: for a notice."""

    def __init__(self, state: State | None = None, leaving: bool = False) -> None:
        self.state, self.leaving = state, leaving


class StoppableIteration:
    """An iteration that beats the pulse, and before each step does what the ranks agreed on.

    keep: called on every rank with the state when a checkpoint is due; set by the trial's training.
    """

    def __init__(
        self, inner: Iteration, pulse: Watchdog, stopping: StopWatch, notice: Notice, timer: CheckpointTimer
    ) -> None:
        self.inner, self.pulse, self.stopping, self.notice, self.timer = inner, pulse, stopping, notice, timer
        self.keep: Callable[[State], None] = lambda state: None
        self.agreement = Agreement()
        self.several = stopping.plan.search.seeds > 1

    def __call__(self, state: State, source: Source, process: Process) -> dict[str, Tensor]:
        what = f"{STEP} of seed {state.config.seed}:" if self.several else STEP
        self.pulse.beat(what, state.step, state.config.steps)
        order = self._order(process)
        if order >= Order.LEAVE:
            raise Halted(state, leaving=order == Order.LEAVE)
        if order == Order.KEEP:
            self.keep(state)
        return self.inner(state, source, process)

    def _order(self, process: Process) -> Order:
        if process.world == 1:
            order, look = self._asked(), self.notice.due()
        elif not self.agreement.due():
            return Order.GO_ON
        else:
            asked, due = self.agreement.reached(process, self._asked(), self.notice.due())
            order, look = Order(asked), bool(due)
        if look and self.notice.drained():  # all ranks look at the same step
            order = max(order, Order.LEAVE)
        return order

    def _asked(self) -> Order:
        """What this rank asks for."""
        if self.stopping():
            return Order.HALT
        if self.notice.terminated():
            return Order.LEAVE
        return Order.KEEP if self.timer.due() else Order.GO_ON

    def begins(self, what: str) -> None:
        """Report the beginning of a part that has no steps."""
        self.pulse.beat(what)

    def scoring(self, stage: str, done: int, total: int) -> None:
        """Report the progress of the measurements that rank 0 makes after training."""
        self.pulse.beat(stage, done, total)
        order = self._asked()
        if order >= Order.LEAVE:
            raise Halted(leaving=order == Order.LEAVE)


class Agreement:
    """At which of their calls all ranks exchange what each asks for: the same on every rank."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.began = clock, clock()
        self.since, self.gap = 0, 1

    def due(self) -> bool:
        """Count a call; whether the ranks exchange at it."""
        self.since += 1
        return self.since >= self.gap

    def reached(self, process: Process, *asked: int) -> list[int]:
        """The greatest of each of these numbers over all ranks. The next exchange is AGREE_SECONDS away by the slowest
        rank's pace, and AGREE_EVERY calls at most."""
        pace = (self.clock() - self.began) / self.since
        *greatest, slowest = process.greatest([*asked, pace])
        self.gap = max(1, min(AGREE_EVERY, int(AGREE_SECONDS / max(slowest, 1e-9))))
        self.began, self.since = self.clock(), 0
        return [int(number) for number in greatest]
