"""Reporters: where a run's metrics go. Any object with `report` is one; the default does nothing."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from svgan.metrics.names import ITERATIONS_PER_SECOND, LATENT_FD

if TYPE_CHECKING:
    from svgan.training.state import State


class Reporter(Protocol):
    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        """Called on every rank, every `report_every` steps and at the end."""
        ...


class NullReporter:
    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        pass


class ConsoleReporter:
    """Print a progress bar with the time left, and a line per report; without a terminal, lines only.

    A line shows latent_fd, else the losses, and the speed. The run folder's figures.json has all metrics.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.console = Console(highlight=False)
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self.progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task: Any = None
        self.started = time.monotonic()

    def __enter__(self) -> ConsoleReporter:
        self.progress.start()
        self.task = self.progress.add_task("starting", total=None)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def report(self, step: int, metrics: dict[str, float], state: State) -> None:
        total = state.config.steps
        left = duration((total - step) / max(metrics[ITERATIONS_PER_SECOND], 1e-9))
        self.console.print(f"step {step}/{total}  {figures(metrics)}  {left} left", soft_wrap=True)
        if self.task is not None:
            self.progress.update(self.task, completed=step, total=total, description=f"{left} left")


def figures(metrics: dict[str, float]) -> str:
    """Format metrics as 'latent_fd 0.35  8.1 it/s'; without latent_fd the losses are shown."""
    told = (LATENT_FD,) if LATENT_FD in metrics else ("critic_loss", "generator_loss")
    shown = [f"{name} {metrics[name]:.3g}" for name in told if name in metrics]
    return "  ".join([*shown, f"{metrics[ITERATIONS_PER_SECOND]:.2g} it/s"])


def duration(seconds: float) -> str:
    """Format seconds as '2h 05m', '3m 07s' or '12s'."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 60}m {whole % 60:02d}s" if whole >= 60 else f"{whole}s"
