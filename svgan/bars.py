"""Progress bars of the commands; on a terminal they move, elsewhere only what is finished is said."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from svgan.embed import Watcher


def plain_console() -> Console:
    """A console that neither colours numbers nor breaks lines; in a file or pipe, tables get room too."""
    terminal = Console().is_terminal
    return Console(highlight=False, markup=False, soft_wrap=terminal, width=None if terminal else 160)


def bars(console: Console) -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


class Stages:
    """A bar per stage. Call it with what is being done, how far, and of how many (0: not known)."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self.tasks:
            self.tasks[stage] = self.progress.add_task(stage)
        self.progress.update(self.tasks[stage], completed=done, total=total or None)


class EmbedBars(Watcher):
    """A bar per video and stage, a line per finished or failed video."""

    def __init__(self, progress: Progress):
        self.progress, self.stages = progress, Stages(progress)

    def stage(self, video: str, stage: str, done: int, total: int) -> None:
        self.stages(f"{video}: {stage}", done, total)

    def finished(self, video: str, frames: int) -> None:
        self.progress.console.print(f"{video}: {frames} frames embedded")

    def failed(self, video: str, reason: str) -> None:
        self.progress.console.print(f"left out: {reason}", style="red")
