"""What the driver does as Tune's events pass: the live table, and the final status of every trial's MLflow run."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from rich.console import Console
from rich.live import Live

from sweeps.ends import FINISHED
from sweeps.guard import failure
from sweeps.table import Row, line, render

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from sweeps.tracking import Tracking


class Board(Callback):
    """Keeps the rows up to date with Tune's events and shows them."""

    def __init__(self, title: str, rows: list[Row], console: Console | None = None) -> None:
        self.title, self.console = title, console or Console()
        self.rows = {row.number: row for row in rows}
        self.live = Live(console=self.console, auto_refresh=False, transient=True) if self.console.is_terminal else None

    def __enter__(self) -> Board:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live:
            self.live.stop()

    def show(self, row: Row) -> None:
        self.rows[row.number] = row
        if self.live:
            self.live.update(render(list(self.rows.values()), self.title), refresh=True)
            return
        self.console.print(f"{time.strftime('%H:%M:%S')} {line(row)}", highlight=False, soft_wrap=True)

    def _row(self, trial: Trial) -> Row:
        number = trial.config["number"]
        return self.rows.get(number) or Row.of(number, trial.config["run"])

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.show(dataclasses.replace(self._row(trial), status="running"))

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        row = self._row(trial)
        step = int(result.get("step", row.step))
        figures = {name: result[name] for name in ("fvd_short", "fvd_long") if name in result}
        status = "finished" if result.get(FINISHED) else "scoring" if step >= row.total else "running"
        best = result.get("latent_fd_best", row.latent_fd)
        self.show(dataclasses.replace(row, step=step, latent_fd=best, status=status, **figures))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if not (trial.last_result or {}).get(FINISHED):
            self.show(dataclasses.replace(self._row(trial), status="stopped"))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.show(dataclasses.replace(self._row(trial), status="failed", note=failure(trial)))

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Ledger(Callback):
    """Closes a trial's run as Tune ends the trial: a killed process cannot do it itself."""

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        finished = bool((trial.last_result or {}).get(FINISHED))
        self.tracking.close_trial(trial.config["number"], "finished" if finished else "pruned")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.tracking.close_trial(trial.config["number"], "failed", failure(trial))

    def __getstate__(self) -> dict[str, Any]:
        return {}
