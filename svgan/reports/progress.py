"""Progress of the commands: bars on a terminal, and lines now and then elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from svgan.pipelines.embed import Watcher
from svgan.training.reporter import duration


def plain_console() -> Console:
    """A console that neither colours numbers nor breaks lines. In a file or pipe, tables get more columns."""
    terminal = Console().is_terminal
    return Console(highlight=False, markup=False, soft_wrap=terminal, width=None if terminal else 160)


def bars(console: Console) -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


class Stages:
    """A bar per stage, or a line every `every` seconds without a terminal.

    Call it with the stage, the number done, and the total (0: unknown).
    """

    def __init__(self, progress: Progress, every: float = 10.0):
        self.progress, self.every = progress, every
        self.tasks: dict[str, TaskID] = {}
        self.begun: dict[str, tuple[float, int]] = {}
        self.spoken = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.progress.disable:
            self._line(stage, done, total)
            return
        if stage not in self.tasks:
            self.tasks[stage] = self.progress.add_task(stage)
        self.progress.update(self.tasks[stage], completed=done, total=total or None)

    def _line(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        since, first = self.begun.setdefault(stage, (now, done))
        if now - self.spoken < self.every:
            return
        self.spoken = now
        left = ""
        if first < done < total:
            left = f", {duration((now - since) * (total - done) / (done - first))} left"
        self.progress.console.print(f"{stage}: {done}{f' of {total}' if total else ''}{left}")


class EmbedBars(Watcher):
    """A bar per video and stage, a line per finished video."""

    def __init__(self, progress: Progress):
        self.progress, self.stages = progress, Stages(progress)

    def stage(self, video: str, stage: str, done: int, total: int) -> None:
        self.stages(f"{video}: {stage}", done, total)

    def finished(self, video: str, summary: str) -> None:
        self.progress.console.print(f"{video}: {summary}", soft_wrap=True)
