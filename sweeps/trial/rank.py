"""One rank of a trial: its place among the workers, its device, and the checkpoint from which it continues."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.train
import torch

from svgan.io import storage
from svgan.training.checkpoint_manager import last_whole
from svgan.training.state import State
from sweeps.storage import events, study_files
from sweeps.storage.plan import Plan
from sweeps.storage.trial_outcome import HALTED, LEFT
from sweeps.storage.usage import Meter
from sweeps.trial.reporter import BEST, STATE
from sweeps.trial.stoppable import Halted, StoppableIteration


class Rank:
    """One rank of a trial, and the checkpoints from which it can start."""

    def __init__(self, config: dict[str, Any], plan: Plan, iteration: StoppableIteration) -> None:
        context = ray.train.get_context()
        self.config, self.plan, self.iteration, self.number = config, plan, iteration, int(config["number"])
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.device = _device(plan)
        self.meter = Meter(plan, self.number)

    def restored(self, scratch: Path) -> State | None:
        """The state of the trial's last whole checkpoint, or None at a first start. Restores the best generator into
        scratch.

        A damaged checkpoint is reported to the user, and the one before it is used.
        """
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
        folder = study_files.training(self.plan, self.number)
        others = [name for name in storage.names(folder) if name.startswith("checkpoint_2")]
        for name in sorted(others, reverse=True):
            if name != Path(kept.path).name:
                shutil.rmtree(here)
                storage.download(f"{folder}/{name}", here)
                yield here

    def ended(self, halted: Halted) -> dict[str, Any]:
        """The outcome of a rank that was asked to end."""
        if not halted.leaving:
            return {HALTED: True}
        kept = "" if halted.state is None else f"; its state is kept at step {halted.state.step}"
        self.tell(f"its workers were told to leave{kept}")
        return {LEFT: True}

    def tell(self, text: str) -> None:
        """Show the user a line, from rank 0 alone."""
        if self.rank == 0:
            events.tell(self.plan, self.number, text)


def _device(plan: Plan) -> torch.device:
    torch.set_num_threads(max(1, int(plan.compute.cpus_per_worker)))
    if not plan.compute.gpus_per_worker:
        return torch.device("cpu")
    from ray.train.torch import get_device

    return get_device()
