"""The table of trials, made from Tune's events while they run and from MLflow afterwards."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from svgan.metrics.names import FVD_LONG, FVD_SHORT, ITERATIONS_PER_SECOND, LATENT_FD
from svgan.training.reporter import duration
from sweeps.reports.variant_table import VARIANT
from sweeps.storage.life import STEP
from sweeps.storage.metric_names import LATENT_FD_BEST, STEPS_DONE
from sweeps.storage.tag_names import OUTCOME, PARETO, TRIAL

if TYPE_CHECKING:
    from mlflow.entities import Run
    from optuna.trial import FrozenTrial
    from rich.console import Console, ConsoleOptions, RenderableType

    from sweeps.storage.life import Sign
    from sweeps.storage.plan import Plan

STATUS_OF_RUN = {"finished": "finished", "pruned": "stopped", "failed": "failed", "halted": "halted"}
STATUS_OF_RECORD = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed", "WAITING": "halted"}
ENDED, GOING_ON = ("finished", "stopped", "failed"), ("running", "scoring")
SHORT = {"gap_weight": "GAP", "gp_weight": "GP", "critic_widths": "E", "trunk": "T", "components": "PCA"}
SAID = (VARIANT, "gap_weight", "width", "critic")
BEST_SHOWN = 20


def short(value: Any) -> str:
    """A parameter as a cell: numbers with four digits, widths as 64x32. Strings from MLflow and live values
    look alike.
    """
    text = str(value)
    if text[:1] in "([":
        return "x".join(part.strip() for part in text.strip("()[]").split(",") if part.strip())
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


@dataclasses.dataclass
class Row:
    """One trial in the table. Figures are None until they exist; a pruned trial never has some.

    config: every field of the run's configuration, in short form. speed: steps per second. seconds: from start to end,
    None after an interruption. front: whether the trial is on the Pareto front, shown as a star. doing: the last sign
    of life of a running trial.
    """

    number: int
    config: dict[str, str]
    total: int
    step: int = 0
    latent_fd: float | None = None
    fvd_short: float | None = None
    fvd_long: float | None = None
    status: str = "waiting"
    note: str = ""
    speed: float | None = None
    seconds: float | None = None
    front: bool = False
    doing: Sign | None = None

    @classmethod
    def from_run(cls, number: int, run: Mapping[str, Any], **known: Any) -> Row:
        own = {name: short(value) for name, value in run.items()}
        return cls(number=number, config=own, total=int(run.get("steps", 0)), **known)

    @property
    def state(self) -> str:
        """The status, with the share that is done of what has no other column, as in 'scoring 12/64'."""
        shown = self.doing is not None and self.doing.what != STEP and self.status in GOING_ON
        return f"{self.status} {self.doing.share}".strip() if self.doing and shown else self.status

    @property
    def left(self) -> float | None:
        """The seconds of training that remain; None if the trial does not train or its speed is unknown."""
        return (self.total - self.step) / self.speed if self.status == "running" and self.speed else None


def figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def differing(rows: Iterable[Row]) -> list[str]:
    """The fields of the configuration that differ between rows: the variant first, then those with most values."""
    values: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.config.items():
            values.setdefault(name, set()).add(value)
    return sorted(
        (name for name in values if len(values[name]) > 1), key=lambda name: (name != VARIANT, -len(values[name]))
    )


def line(row: Row, names: Sequence[str] = ()) -> str:
    """A row as one line of a log, with these fields of its configuration (SAID if there are none)."""
    named = (("latent FD", row.latent_fd), ("FVD short", row.fvd_short), ("FVD long", row.fvd_long))
    figures = "".join(f"  {name} {figure(value)}" for name, value in named if value is not None)
    told = ", ".join(f"{SHORT.get(name, name)} {row.config[name]}" for name in names or SAID if name in row.config)
    if row.speed is not None and row.status == "running":
        figures += f"  {row.speed:.2g} it/s"
    sign = row.doing if row.doing and row.status in GOING_ON and row.doing.what != STEP else ""
    told_more = row.note or str(sign)
    return (
        f"trial {row.number}{f' ({told})' if told else ''}  step {row.step}/{row.total}"
        f"{figures}  {row.status}{f': {told_more}' if told_more else ''}"
    )


def render(rows: Sequence[Row], title: str, rungs: Sequence[int] = ()) -> Trials:
    return Trials(rows, title, rungs)


@dataclasses.dataclass
class Trials:
    """The table, with as many of the differing parameters as fit the console's width.

    With more than BEST_SHOWN trials it shows the best by latent FD, and those that have not ended.
    """

    rows: Sequence[Row]
    title: str
    rungs: Sequence[int] = ()

    def visible(self) -> list[Row]:
        if len(self.rows) <= BEST_SHOWN:
            return sorted(self.rows, key=lambda row: row.number)
        ranked = sorted(self.rows, key=lambda row: math.inf if row.latent_fd is None else row.latent_fd)
        going_on = [row for row in ranked[BEST_SHOWN:] if row.status not in ENDED]
        return ranked[:BEST_SHOWN] + sorted(going_on, key=lambda row: row.number)

    def columns(self, rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
        """The headings and cells of every table; time left and rungs only if there are any."""
        found = [
            ("trial", [f"{row.number}{'*' if row.front else ''}" for row in rows]),
            ("rung", [f"{sum(row.step >= rung for rung in self.rungs)}/{len(self.rungs)}" for row in rows]),
            ("steps", [f"{row.step}/{row.total}" for row in rows]),
            ("latent\nFD", [figure(row.latent_fd) for row in rows]),
            ("FVD\nshort", [figure(row.fvd_short) for row in rows]),
            ("FVD\nlong", [figure(row.fvd_long) for row in rows]),
            ("state", [row.state for row in rows]),
            ("left", ["" if row.left is None else duration(row.left) for row in rows]),
        ]
        empty = {"rung": not self.rungs, "left": not any(found[-1][1])}
        return [(heading, cells) for heading, cells in found if not empty.get(heading)]

    def fitted(self, rows: Sequence[Row], width: int, gap: int) -> tuple[list[tuple[str, list[str]]], list[str]]:
        """The columns that fit this width, with `gap` spaces between them, and the parameters that do not fit."""
        columns, left_out, place = self.columns(rows), list[str](), 1
        room = width - sum(_width(column) + gap for column in columns)
        for name in differing(self.rows):
            column = (SHORT.get(name, name), [row.config.get(name, "-") for row in rows])
            if _width(column) + gap > room:
                left_out.append(column[0])
            else:
                columns.insert(place, column)
                place, room = place + 1, room - _width(column) - gap
        return columns, left_out

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        rows, gap = self.visible(), 2
        columns, left_out = self.fitted(rows, options.max_width, gap)
        if left_out:
            gap = 1
            columns, left_out = self.fitted(rows, options.max_width, gap)
        table = Table(title=self.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
        table.padding = (0, gap - 1, 0, 0)
        for heading, cells in columns:
            words = heading == "state" or not any(cell[:1].isdigit() for cell in cells)
            table.add_column(heading, justify="left" if words else "right", no_wrap=True)
        for row in zip(*(cells for _, cells in columns), strict=True):
            table.add_row(*map(Text, row))
        yield table
        if len(rows) < len(self.rows):
            yield Text(f"the best {BEST_SHOWN} of {len(self.rows)} by latent FD, and those that are not over")
        if left_out:
            yield Text(f"no room for {', '.join(left_out)}, which differ too")


def _width(column: tuple[str, list[str]]) -> int:
    heading, cells = column
    return max(len(text) for text in (*heading.splitlines(), *cells))


def time_left(rows: Sequence[Row], trials: int, concurrency: int) -> float | None:
    """The seconds until the study ends, from the time of whole trials and what the running ones have left.

    None while no trial has reported its speed.
    """
    took = [row.seconds for row in rows if row.seconds is not None and row.status in ENDED]
    speeds = [row.speed for row in rows if row.speed]
    if not took and not speeds:
        return None
    whole = statistics.fmean(took) if took else max(row.total for row in rows) / statistics.median(speeds)
    going_on = [row for row in rows if row.status not in (*ENDED, "scoring")]
    ahead = [whole if row.left is None else row.left for row in going_on] + [whole] * max(0, trials - len(rows))
    return max(sum(ahead) / concurrency, max(ahead, default=0.0))


def rows_of(runs: Sequence[Run], alive: bool = True) -> list[Row]:
    """The rows of a study's trials in MLflow. Without a living driver, no trial counts as running."""
    return [_row_of(run, alive) for run in runs]


def _row_of(run: Run, alive: bool) -> Row:
    params, metrics, tags = run.data.params, run.data.metrics, run.data.tags
    whole = tags.get("attempts", "1") == "1" and run.info.end_time is not None
    return Row.from_run(
        int(tags[TRIAL]),
        params,
        step=int(metrics.get(STEPS_DONE, 0)),
        latent_fd=metrics.get(LATENT_FD_BEST),
        fvd_short=metrics.get(FVD_SHORT),
        fvd_long=metrics.get(FVD_LONG),
        status=_status(run, alive),
        note=tags.get("error", ""),
        front=tags.get(PARETO) == "true",
        speed=metrics.get(ITERATIONS_PER_SECOND),
        seconds=(run.info.end_time - run.info.start_time) / 1000 if whole else None,
    )


def _status(run: Run, alive: bool) -> str:
    """A trial's status: running, scoring (trained, FVD is being measured), finished, stopped, failed, halted (stopped
    cleanly, can be resumed), or cut (its driver died).
    """
    if run.info.status == "RUNNING":
        whole = run.data.metrics.get(STEPS_DONE, 0) >= int(run.data.params.get("steps", 0)) > 0
        return ("scoring" if whole else "running") if alive else "cut"
    return STATUS_OF_RUN.get(run.data.tags.get(OUTCOME, ""), "cut")


def rows_of_record(trials: Iterable[FrozenTrial], plan: Plan, alive: bool = True) -> list[Row]:
    """The rows from the study's record, for when MLflow cannot be reached. They have FVD only if it is an objective."""
    from sweeps.search import optuna_mirror

    rows = []
    for trial in trials:
        told = optuna_mirror.reports(trial)
        figures = {LATENT_FD: min(told.values(), default=None)}
        if trial.values:
            figures |= dict(
                zip((name.removesuffix("_best") for name in plan.search.objective_keys), trial.values, strict=True)
            )
        rows.append(
            Row.from_run(
                trial.number,
                {"steps": plan.search.steps_of(trial.number), **trial.user_attrs.get(optuna_mirror.CONFIG, {})},
                step=max(told, default=0),
                status=STATUS_OF_RECORD.get(trial.state.name, "running" if alive else "cut"),
                note=trial.user_attrs.get(optuna_mirror.ERROR, ""),
                **figures,
            )
        )
    return rows
