"""The table of a study of variants: every figure with its interval over seeds, and what it cost.

It is printed, kept in MLflow, and written as Markdown for documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.io.atomic import write_whole
from svgan.metrics.names import (
    ACD,
    FID_LONG,
    FID_SHORT,
    FVD_LONG,
    FVD_SHORT,
    LOOPS_RECURRENCE,
    LOOPS_REPEAT,
    LOOPS_STILL,
)
from sweeps.storage.metric_names import SECONDS_SCORING
from sweeps.storage.tag_names import OUTCOME
from sweeps.storage.usage import CORE_HOURS

if TYPE_CHECKING:
    from mlflow.entities import Run
    from rich.table import Table

    from sweeps.storage.plan import Plan

VARIANT, FILE = "variant", "comparison.md"
FIGURES = {
    FVD_SHORT: "FVD short",
    FVD_LONG: "FVD long",
    FID_SHORT: "FID short",
    FID_LONG: "FID long",
    ACD: "ACD",
    LOOPS_REPEAT: "repeat",
    LOOPS_RECURRENCE: "recurrence",
    LOOPS_STILL: "still",
}
NAME, GAP = 24, 3  # columns that a variant's name may take before it wraps, and that lie around each cell
LOWER_IS_BETTER = (FVD_SHORT, FVD_LONG, FID_SHORT, FID_LONG)


@dataclass(frozen=True)
class Line:
    """One variant. figures: the mean, and the ends of its interval if there are several seeds. seconds: training time
    of one seed.
    """

    variant: str
    steps: int
    seconds: float | None
    figures: dict[str, tuple[float, ...]]
    outcome: str


def labels(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a point that only label it in tables."""
    return {VARIANT: params[VARIANT]} if VARIANT in params else {}


def lines(plan: Plan, runs: Sequence[Run]) -> list[Line]:
    """The lines in the order of the trials; empty if the study has no variants."""
    found = []
    for run in runs:
        params, metrics = run.data.params, run.data.metrics
        if VARIANT not in params:
            continue
        figures = {}
        for name in FIGURES:
            if name in metrics:
                keys = (name, f"{name}_low", f"{name}_high") if f"{name}_low" in metrics else (name,)
                figures[name] = tuple(metrics[key] for key in keys)
        outcome = run.data.tags.get(OUTCOME, "running")
        found.append(Line(params[VARIANT], int(params["steps"]), seconds_of(plan, metrics), figures, outcome))
    return found


def seconds_of(plan: Plan, metrics: dict[str, float]) -> float | None:
    """A worker's training time per seed, without scoring; None if the trial has not ended."""
    if CORE_HOURS not in metrics:
        return None
    held = 3600 * metrics[CORE_HOURS] / (plan.compute.workers * plan.compute.cpus_per_worker)
    return (held - metrics.get(SECONDS_SCORING, 0.0)) / plan.search.seeds


def cells(table: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """The headings and rows as text. The lowest mean of each distance is in **stars**."""
    shown = [name for name in FIGURES if any(name in line.figures for line in table)]
    least = {
        name: min(line.figures[name][0] for line in table if name in line.figures)
        for name in LOWER_IS_BETTER
        if name in shown
    }
    rows = []
    for line in table:
        row = [line.variant, str(line.steps), "-" if line.seconds is None else f"{line.seconds:.0f}"]
        for name in shown:
            row.append(cell(line.figures.get(name, ()), least.get(name)))
        rows.append([*row, line.outcome] if any(one.outcome != "finished" for one in table) else row)
    ended = ["outcome"] if any(one.outcome != "finished" for one in table) else []
    return ["", "steps", "wall s", *(FIGURES[name] for name in shown), *ended], rows


def cell(values: Sequence[float], least: float | None) -> str:
    """'23.9 +- 2.4', '23.9', or '-'. The interval is symmetric about the mean."""
    if not values:
        return "-"
    mean = f"**{number(values[0])}**" if values[0] == least else number(values[0])
    return f"{mean} +- {number((values[2] - values[1]) / 2)}" if len(values) == 3 else mean


def number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def describe(plan: Plan) -> str:
    """What the figures are of, in a line."""
    kind = "GPU" if plan.compute.gpus_per_worker else "CPU"
    budget = f"{plan.search.seconds:g} {kind} s of training" if plan.search.seconds else "the steps that it says"
    seeds = f"mean and 95 % interval of {plan.search.seeds} seeds" if plan.search.seeds > 1 else "one seed"
    return f"each variant with {budget} a seed; {seeds}; figures of {plan.judging.clips} clips"


def markdown(plan: Plan, table: Sequence[Line]) -> str:
    headings, rows = cells(table)
    ruled = [headings, ["---"] * len(headings), *rows]
    return "\n".join([f"{plan.name}: {describe(plan)}.", "", *("| " + " | ".join(row) + " |" for row in ruled), ""])


def render(plan: Plan, table: Sequence[Line], width: int) -> Table:
    """Render for a terminal of this width. Columns that do not fit are left out, and the file has them."""
    from rich import box
    from rich.table import Table

    headings, rows = cells(table)
    fit = fitting([headings, *rows], width)
    left = f"; {', '.join(headings[fit:])}: {FILE}" if fit < len(headings) else ""
    made = Table(title="comparison", caption=describe(plan) + left, title_justify="left", box=box.SIMPLE_HEAD)
    for number, heading in enumerate(headings[:fit]):
        made.add_column(heading, justify="right" if number else "left", no_wrap=number > 0)
    for row in rows:
        made.add_row(*(f"[bold]{text.replace('**', '')}[/]" if "**" in text else text for text in row[:fit]))
    return made


def fitting(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many columns of text fit side by side; the first column wraps."""
    taken, fit = 0, 0
    for number, column in enumerate(zip(*rows, strict=True)):
        longest = max(len(text.replace("**", "")) for text in column)
        taken += GAP + (longest if number else min(longest, NAME))
        fit += taken <= width
    return max(fit, 1)


def write(plan: Plan, table: Sequence[Line]) -> Path:
    path = Path(plan.output.folder, FILE)
    with write_whole(path) as aside:
        aside.write_text(markdown(plan, table))
    return path
