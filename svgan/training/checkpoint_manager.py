"""Checkpoint managers: which states of a run are kept. Any object with `save` and `latest` is one; the default keeps
none.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import torch

from svgan.metrics.names import LATENT_FD
from svgan.training import checkpoint
from svgan.training.state import State

log = logging.getLogger(__name__)


class Keeper(Protocol):
    def save(self, state: State) -> None:
        """Save this state; called on rank 0 after every report."""
        ...

    def latest(self, device: torch.device | str) -> State | None:
        """Return the state from which to resume, if there is one; called on every rank."""
        ...


class NullKeeper:
    def save(self, state: State) -> None:
        pass

    def latest(self, device: torch.device | str) -> State | None:
        return None


def last_whole(
    folders: Iterable[Path], device: torch.device | str, tell: Callable[[str], None] = log.warning
) -> State | None:
    """Load the first of the checkpoints that is not damaged; None if there is no checkpoint.

    tell: called with a message for each damaged one. If all are damaged, the first one's error is raised.
    """
    first: checkpoint.Damaged | None = None
    for folder in folders:
        try:
            return checkpoint.load(folder, device)
        except checkpoint.Damaged as error:
            tell(f"{error}; trying the checkpoint before it")
            first = first or error
    if first is not None:
        raise first
    return None


class FolderKeeper:
    """Checkpoints `step-00000100`, ... in a folder: the last `last` of them, and the one with the lowest `metric`."""

    def __init__(self, folder: Path | str, *, last: int = 2, metric: str = LATENT_FD):
        self.folder, self.last, self.metric = Path(folder), last, metric

    def save(self, state: State) -> None:
        checkpoint.save(state, self._path(state.step))
        kept = set(self.steps()[-self.last :]) | {self._best_step(state.history)}
        for step in set(self.steps()) - kept:
            shutil.rmtree(self._path(step))
        for leftover in self.folder.glob(".step-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def latest(self, device: torch.device | str = "cpu") -> State | None:
        """Load the last undamaged state; the log names damaged ones. Raises UserError if all are damaged."""
        return last_whole((self._path(step) for step in reversed(self.steps())), device)

    def best(self) -> Path | None:
        """Return the folder with the lowest metric so far; if the metric was never reported, the last one."""
        steps = self.steps()
        if not steps:
            return None
        best = self._best_step(checkpoint.read_record(self._path(steps[-1]))["history"])
        return self._path(best if best in steps else steps[-1])

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints in the folder, ascending."""
        found = (re.fullmatch(r"step-(\d{8,})", path.name) for path in self.folder.glob("step-*"))
        return sorted(int(match[1]) for match in found if match)

    def _best_step(self, history: list[dict[str, float]]) -> int | None:
        scored = [h for h in history if math.isfinite(h.get(self.metric, math.nan))]
        return int(min(scored, key=lambda h: h[self.metric])["step"]) if scored else None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"
