"""A grid in place of a search: every point is a trial that runs to the end, in a stated order."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.io.atomic import write_whole
from svgan.metrics.names import FVD_LONG, FVD_SHORT
from svgan.training.overrides import value_of
from sweeps.storage.metric_names import LATENT_FD_BEST
from sweeps.storage.tag_names import OUTCOME, TRIAL

if TYPE_CHECKING:
    from mlflow.entities import Run
    from rich.table import Table

Grid = Mapping[str, Sequence[Any]]
FIGURES = {LATENT_FD_BEST: "latent FD", FVD_SHORT: "FVD short", FVD_LONG: "FVD long"}
TABLE = "ablation.csv"


def parse(entries: Sequence[str], recipe: str) -> dict[str, list[Any]]:
    """Parse `gap_weight=0,1,10` and the like as a grid of a recipe's fields. Values are JSON scalars, else text.

    Raises UserError.
    """
    grid: dict[str, list[Any]] = {}
    for entry in entries:
        name, equals, values = entry.partition("=")
        if not equals or not name:
            raise UserError(f"--grid {entry}: write FIELD=VALUE,VALUE,..., as in gap_weight=0,1,10")
        if name in grid:
            raise UserError(f"--grid {name}: given twice; put all its values behind one {name}=")
        grid[name] = [value_of(text) for text in values.split(",") if text]
    return checked(grid, recipe)


def checked(grid: Grid, recipe: str) -> dict[str, list[Any]]:
    """Return the grid. Raises UserError for fields that the recipe does not have, and for missing or repeated
    values.
    """
    from svgan.training import recipes

    known = {field.name for field in dataclasses.fields(recipes.make(recipe))} - {"recipe"}
    for name, values in grid.items():
        if name not in known:
            raise UserError(f"--grid {name}: no such field of a run; one of {', '.join(sorted(known))}")
        if not values:
            raise UserError(f"--grid {name}: has no values; write {name}=VALUE,VALUE,...")
        for value in values:
            if not isinstance(value, str | int | float | None):
                raise UserError(f"--grid {name}: {value!r} is no number, text, true, false or null")
        if twice := [value for at, value in enumerate(values) if value in values[:at]]:
            raise UserError(f"--grid {name}: {twice[0]!r} is there twice")
    return {name: list(values) for name, values in grid.items()}


def points(grid: Grid) -> list[dict[str, Any]]:
    """Every point, with the last field changing fastest: the order of the trials' numbers."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def count(grid: Grid) -> int:
    return math.prod(len(values) for values in grid.values())


def describe(grid: Grid) -> str:
    """'grid of 6 points, each run whole, the last field changing fastest: gap_weight 0, 1, 10; width 32, 64'."""
    fields = "; ".join(f"{name} {', '.join(map(str, values))}" for name, values in grid.items())
    return f"grid of {count(grid)} points, each run whole, the last field changing fastest: {fields}"


def ablation(grid: Grid, runs: Sequence[Run]) -> list[dict[str, str]]:
    """One row per trial: the grid's fields, the figures that any trial has, and the outcome."""
    names = [name for name in itertools.chain(*(_with_interval(figure) for figure in FIGURES)) if _any_has(runs, name)]
    rows = []
    for run in runs:
        own = {name: str(run.data.params.get(name, "")) for name in grid}
        figures = {name: f"{run.data.metrics[name]:.6g}" if name in run.data.metrics else "" for name in names}
        rows.append({"trial": run.data.tags[TRIAL], **own, **figures, "outcome": _outcome(run)})
    return rows


def _with_interval(figure: str) -> list[str]:
    """The figures, each followed by its interval if there are several seeds."""
    return [figure, f"{figure}_low", f"{figure}_high"]


def _any_has(runs: Sequence[Run], name: str) -> bool:
    return any(name in run.data.metrics for run in runs)


def _outcome(run: Run) -> str:
    return run.data.tags.get(OUTCOME, "running")


def render(rows: Sequence[Mapping[str, str]], title: str) -> Table:
    """The rows for a terminal. The lowest value of each figure is bold."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    least = {
        name: min((row[name] for row in rows if row[name]), key=float, default="")
        for name in FIGURES
        if rows and name in rows[0]
    }
    for name in rows[0] if rows else ():
        table.add_column(FIGURES.get(name, name), justify="left" if name == "outcome" else "right")
    for row in rows:
        table.add_row(
            *(f"[bold]{cell}[/]" if cell and least.get(name) == cell else cell or "-" for name, cell in row.items())
        )
    return table


def write(rows: Sequence[Mapping[str, str]], path: Path) -> Path:
    """Write the rows as CSV, atomically."""
    with write_whole(path) as aside, aside.open("w", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]) if rows else ["trial"])
        out.writeheader()
        out.writerows(rows)
    return path
