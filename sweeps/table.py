"""The one table of trials, from Tune's events while they run and from MLflow afterwards."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from mlflow.entities import Run

STEPS_DONE = "steps_done"
STATUS_OF_RUN = {"finished": "finished", "pruned": "stopped", "failed": "failed"}


@dataclasses.dataclass
class Row:
    """One trial as the user sees it; figures are None until they exist, and stay so for stopped trials."""

    number: int
    gap_weight: float
    width: int
    critic: str
    seed: int
    total: int
    step: int = 0
    latent_fd: float | None = None
    fvd_short: float | None = None
    fvd_long: float | None = None
    status: str = "waiting"
    note: str = ""

    @classmethod
    def of(cls, number: int, run: dict[str, Any], **known: Any) -> Row:
        names = ("gap_weight", "width", "critic", "seed")
        return cls(number=number, total=int(run["steps"]), **{name: run[name] for name in names}, **known)

    def cells(self) -> list[str]:
        return [
            str(self.number),
            f"{self.gap_weight:.4g}",
            str(self.width),
            self.critic,
            str(self.seed),
            f"{self.step}/{self.total}",
            *(figure(value) for value in (self.latent_fd, self.fvd_short, self.fvd_long)),
            self.status,
        ]


COLUMNS = ("trial", "GAP", "width", "critic", "seed", "steps", "latent\nFD", "FVD\nshort", "FVD\nlong", "status")


def figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def line(row: Row) -> str:
    """A row as one line of a log."""
    named = (("latent FD", row.latent_fd), ("FVD short", row.fvd_short), ("FVD long", row.fvd_long))
    figures = "".join(f"  {name} {figure(value)}" for name, value in named if value is not None)
    return (
        f"trial {row.number} (GAP {row.gap_weight:.4g}, width {row.width}, {row.critic})  step {row.step}/{row.total}"
        f"{figures}  {row.status}{f': {row.note}' if row.note else ''}"
    )


def render(rows: list[Row], title: str) -> Table:
    """A table of 80 columns at most."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("critic", "status") else "right", no_wrap=True)
    for row in sorted(rows, key=lambda row: row.number):
        table.add_row(*row.cells())
    return table


def rows_of(runs: list[Run]) -> list[Row]:
    """The rows of a study's trials as MLflow has them."""
    return [_row_of(run) for run in runs]


def _row_of(run: Run) -> Row:
    params, metrics, tags = run.data.params, run.data.metrics, run.data.tags
    return Row(
        number=int(tags["svgan.trial"]),
        gap_weight=float(params.get("gap_weight", "nan")),
        width=int(params.get("width", 0)),
        critic=params.get("critic", "?"),
        seed=int(params.get("seed", 0)),
        total=int(params.get("steps", 0)),
        step=int(metrics.get(STEPS_DONE, 0)),
        latent_fd=metrics.get("latent_fd_best"),
        fvd_short=metrics.get("fvd_short"),
        fvd_long=metrics.get("fvd_long"),
        status=STATUS_OF_RUN.get(tags.get("svgan.outcome", ""), "running"),
        note=tags.get("error", ""),
    )
