"""`--trial-hours`: a trial whose workers' hours are used up ends its training, and is judged as it stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import Tensor

from svgan.torch_utils.distributed import Process
from svgan.training.registry import Iteration, Source
from svgan.training.reporter import Reporter
from svgan.training.state import State
from sweeps.trial.rank import Rank
from sweeps.trial.stoppable import AGREE_EVERY
from sweeps.trial.training import TrialTraining


class HoursUsedUp(Exception):
    """The trial's hours are used up, and all ranks agreed on this step. state: the whole state."""

    def __init__(self, state: State) -> None:
        self.state = state


class TimedIteration:
    """An iteration that raises HoursUsedUp instead of the first step after `used_up` returned True on any rank."""

    def __init__(self, inner: Iteration, used_up: Callable[[], bool]) -> None:
        self.inner, self.used_up = inner, used_up

    def __call__(self, state: State, source: Source, process: Process) -> dict[str, Tensor]:
        if (process.world == 1 or state.step % AGREE_EVERY == 0) and process.any(self.used_up()):
            raise HoursUsedUp(state)
        return self.inner(state, source, process)


def used_up(rank: Rank) -> bool:
    """Whether the trial's hours are used up, by rank 0's meter; False on the other ranks."""
    limit = rank.plan.compute.trial_hours
    return limit is not None and rank.rank == 0 and rank.meter.seconds() >= 3600 * limit


def tell(rank: Rank, step: int, steps: int) -> None:
    limit = rank.plan.compute.trial_hours
    rank.tell(f"--trial-hours {limit:g}: used up at step {step} of {steps}; it is judged as it stands")


def train(rank: Rank, training: TrialTraining, reporter: Reporter, state: State | None, process: Process) -> State:
    """Train to the last step, or until --trial-hours is used up. The trial then makes one more step and its report."""
    if rank.plan.compute.trial_hours is None:
        return training.train(reporter, state=state, process=process, iteration=rank.iteration)
    timed = TimedIteration(rank.iteration, lambda: used_up(rank))
    try:
        return training.train(reporter, state=state, process=process, iteration=timed)
    except HoursUsedUp as over:
        state = over.state
    tell(rank, state.step, training.run.steps)
    if state.history and state.history[-1]["step"] == state.step:  # it stands at a report, or did when it was cut
        return state
    last = dataclasses.replace(training, run=dataclasses.replace(training.run, steps=state.step + 1))
    return last.train(reporter, state=state, process=process, iteration=rank.iteration)
