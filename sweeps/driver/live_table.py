"""The live table of trials, kept up to date by Tune's events."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from rich.console import Console
from rich.live import Live

from svgan.io import storage
from svgan.metrics.names import FVD_LONG, FVD_SHORT, ITERATIONS_PER_SECOND
from sweeps.reports.trial_table import STATUS_OF_RUN, Row, differing, line, render
from sweeps.reports.variant_table import labels
from sweeps.storage import events
from sweeps.storage.life import STEP
from sweeps.storage.metric_names import LATENT_FD_BEST
from sweeps.storage.paths import is_remote
from sweeps.storage.trial_failure import failure
from sweeps.storage.trial_outcome import FINISHED, Ending, how_it_ended
from sweeps.tracking.trial_log import TrialLog

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from sweeps.driver.life_watch import LifeWatch
    from sweeps.storage.plan import Plan


LOOK_SECONDS, REMOTE_LOOK_SECONDS = 2.0, 10.0  # between two looks for messages; a request to S3 costs 10 to 50 ms


class LiveTable(Callback):
    """A Tune callback that updates the rows with Tune's events and shows them, with the workers' messages.

    life: where the running trials' signs of life come from. In a log, a trial that says nothing else shows its sign
    every --patience.
    """

    def __init__(self, plan: Plan, rows: list[Row], life: LifeWatch, console: Console | None = None) -> None:
        self.plan, self.title, self.life, self.console = plan, plan.name, life, console or Console()
        self.said: dict[int, float] = {}  # when a line of each trial was printed last
        self.heard = set[str]()
        self.every = REMOTE_LOOK_SECONDS if is_remote(plan.output.storage) else LOOK_SECONDS
        self.next = 0.0
        self.rows = {row.number: row for row in rows}
        self.live = Live(console=self.console, auto_refresh=False, transient=True) if self.console.is_terminal else None

    def __enter__(self) -> LiveTable:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live:
            self.live.stop()

    def show(self, row: Row) -> None:
        if self.rows.get(row.number) == row:
            return
        self.rows[row.number] = row
        self.said[row.number] = time.monotonic()
        if self.live:
            self.live.update(render(list(self.rows.values()), self.title, self.plan.search.rungs), refresh=True)
            return
        told = line(row, differing(self.rows.values()))
        self.console.print(f"{time.strftime('%H:%M:%S')} {told}", highlight=False, soft_wrap=True)

    def _row(self, trial: Trial) -> Row:
        number = trial.config["number"]
        return self.rows.get(number) or Row.from_run(number, trial.config["run"] | labels(trial.config["params"]))

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.show(dataclasses.replace(self._row(trial), status="running"))

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        row = self._row(trial)
        step = int(result.get("step", row.step))
        figures = {name: result[name] for name in (FVD_SHORT, FVD_LONG) if name in result}
        status = "finished" if result.get(FINISHED) else "scoring" if step >= row.total else "running"
        best = result.get(LATENT_FD_BEST, row.latent_fd)
        speed = result.get(ITERATIONS_PER_SECOND, row.speed)
        told = dataclasses.replace(row, step=step, latent_fd=best, status=status, speed=speed, doing=None, **figures)
        self.show(told)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        ending = how_it_ended(trial.last_result)
        if ending == "failed":
            self._ended_badly(trial, ending)
        else:
            self.show(dataclasses.replace(self._row(trial), status=STATUS_OF_RUN[ending], doing=None))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._ended_badly(trial, how_it_ended(trial.last_result, error=True))

    def _ended_badly(self, trial: Trial, ending: Ending) -> None:
        number = trial.config["number"]
        note = f"{failure(trial)}; see {TrialLog(self.plan, number).link() or self.plan.output.folder}"
        self.show(dataclasses.replace(self._row(trial), status=STATUS_OF_RUN[ending], note=note, doing=None))
        if self.live:
            self.say(f"trial {number} {STATUS_OF_RUN[ending]}: {note}", "red")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if time.monotonic() >= self.next:
            self.listen()
            self.next = time.monotonic() + self.every
            self.show_signs()

    def show_signs(self) -> None:
        """Show what the running trials do between their reports."""
        for number, sign in self.life.signs.items():
            row = self.rows.get(number)
            silent = time.monotonic() - self.said.get(number, 0.0)
            if row is None or not (self.live or silent > 60 * self.plan.compute.patience):
                continue
            step = max(row.step, sign.done) if sign.what == STEP else row.step
            self.show(dataclasses.replace(row, step=step, doing=sign))

    def listen(self) -> None:
        """Show the messages that came since the last call."""
        with contextlib.suppress(*storage.ERRORS):
            for name, event in events.read(self.plan, self.heard).items():
                self.heard.add(name)
                self.say(str(event), "yellow")

    def say(self, text: str, style: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, style=style, markup=False)

    def __getstate__(self) -> dict[str, Any]:
        return {}
