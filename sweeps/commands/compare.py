"""`python -m sweeps compare A B`."""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from svgan.errors import UserError
from svgan.metrics.names import FVD_LONG, FVD_LONG_ORIGINAL, FVD_SHORT, FVD_SHORT_ORIGINAL
from sweeps.commands import find_study
from sweeps.storage.metric_names import LATENT_FD_BEST, STEPS_DONE
from sweeps.storage.tag_names import PROTOCOL_LONG, PROTOCOL_SHORT

if TYPE_CHECKING:
    import numpy as np
    from mlflow.entities import Run
    from rich.table import Table

    from sweeps.storage.plan import Plan
    from sweeps.tracking.client import Tracking

HELP = "two studies, or two trials, side by side"
ABOUT = """Show what differs between two studies or two trials: settings, digests, figures.

  python -m sweeps compare gap-1 gap-2                two studies: best and median figures, counts
  python -m sweeps compare gap-1:0 gap-1:3            two trials, of one study or of two
  python -m sweeps compare gap-1:0 gap-2:0 --sheet both.png      their contact sheets in one picture

If protocol, codes or domain differ, it says so first, because such figures cannot be compared.
"""
# Figures with different values of these tags cannot be compared.
MUST_AGREE = ("latents", "domain", PROTOCOL_SHORT, PROTOCOL_LONG)
NOT_SETTINGS = ("name", "folder", "storage", "tracking", "experiment", "digests", "format")
FIGURES = (LATENT_FD_BEST, FVD_SHORT, FVD_LONG, FVD_SHORT_ORIGINAL, FVD_LONG_ORIGINAL)
SHEET, GAP = "contact_sheet.png", 8


@dataclasses.dataclass(frozen=True)
class Side:
    """A study, or one of its trials, to compare. runs: the MLflow runs of its trials, or the one run."""

    label: str
    plan: Plan
    tracking: Tracking
    runs: list[Run]
    settings: Mapping[str, str]
    digests: Mapping[str, str]
    figures: Mapping[str, float]


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("one", metavar="A", help="a study's NAME, or a trial as NAME:NUMBER")
    parser.add_argument("other", metavar="B", help="the same kind of thing")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="put their contact sheets into one picture")
    find_study.add_flags(parser)


def run(asked: argparse.Namespace) -> None:
    from rich.console import Console

    if (":" in asked.one) != (":" in asked.other):
        raise UserError(f"{asked.one} and {asked.other}: compare two studies or two trials, not one of each")
    if asked.sheet and asked.sheet.suffix != ".png":
        raise UserError(f"--sheet {asked.sheet}: give a name that ends in .png")
    one, other = side(asked, asked.one), side(asked, asked.other)
    console = Console(highlight=False)
    console.print(f"A: {one.label}\nB: {other.label}", markup=False)
    for text in warnings(one, other):
        console.print(text, style="bold red", markup=False, soft_wrap=True)
    for title, left, right in (("settings", one.settings, other.settings), ("digests", one.digests, other.digests)):
        console.print(differences(title, left, right))
    console.print(figures_table(one, other))
    if asked.sheet:
        write_sheet(one, other, asked.sheet)
        print(f"{asked.sheet}: A on the left, B on the right")


def side(asked: argparse.Namespace, what: str) -> Side:
    """Find what `NAME` or `NAME:NUMBER` names. Raises UserError if there is none."""

    name, of_trial, _ = what.partition(":")
    plan = find_study.find_plan(asked, name)
    tracking = find_study.open_tracking(plan)
    if of_trial:
        run = find_study.trial_run(tracking, what)
        settings = {**run.data.params, "clips": str(plan.judging.clips), "workers": str(plan.compute.workers)}
        digests = {key: value for key, value in run.data.tags.items() if key in plan.tags}
        figures = {name: run.data.metrics[name] for name in (*FIGURES, STEPS_DONE) if name in run.data.metrics}
        return Side(what, plan, tracking, [run], settings, digests, figures)
    settings = {key: str(value) for key, value in plan.to_json().items() if key not in NOT_SETTINGS}
    return Side(what, plan, tracking, tracking.runs(), settings, plan.tags, study_figures(tracking.runs()))


def study_figures(runs: list[Run]) -> dict[str, float]:
    """The best and the median of each figure, and the number of trials per outcome."""
    from sweeps.reports.trial_table import ENDED, rows_of

    found: dict[str, float] = {}
    for name in FIGURES:
        values = [run.data.metrics[name] for run in runs if name in run.data.metrics]
        if values:
            found |= {f"{name}, best": min(values), f"{name}, median": statistics.median(values)}
    ended = [row.status for row in rows_of(runs)]
    return found | {f"trials {way}": ended.count(way) for way in ENDED if way in ended}


def warnings(one: Side, other: Side) -> Iterator[str]:
    for key in MUST_AGREE:
        values = one.digests.get(key), other.digests.get(key)
        if values[0] != values[1]:
            yield f"THEIR FIGURES DO NOT COMPARE: {key} is {values[0]} in A, {values[1]} in B"


def differences(title: str, left: Mapping[str, str], right: Mapping[str, str]) -> Table | str:
    """A table of the entries that differ; one line if none do."""
    from rich.table import Table

    keys = [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]
    if not keys:
        return f"{title}: the same"
    table = Table(title, "A", "B", box=None, pad_edge=False)
    for key in keys:
        table.add_row(key, left.get(key, "-"), right.get(key, "-"))
    return table


def figures_table(one: Side, other: Side) -> Table:
    """A table of figures with the second's difference from the first's, absolute and in per cent."""
    from rich.table import Table

    from sweeps.reports.trial_table import figure

    table = Table("figures", box=None, pad_edge=False)
    for heading in ("A", "B", "B - A", "%"):
        table.add_column(heading, justify="right")
    for key in dict.fromkeys([*one.figures, *other.figures]):
        left, right = one.figures.get(key), other.figures.get(key)
        change = None if left is None or right is None else right - left
        part = f"{100 * change / left:+.1f}" if change and left else ""
        table.add_row(key, figure(left), figure(right), "" if change is None else f"{change:+.4g}", part)
    return table


def write_sheet(one: Side, other: Side, path: Path) -> None:
    """Write both contact sheets into one picture, the first on the left."""
    import numpy as np

    from svgan.io.video_writer import write_png

    left, right = sheet(one), sheet(other)
    height = max(len(left), len(right))
    padded = [np.pad(each, ((0, height - len(each)), (0, GAP), (0, 0)), constant_values=255) for each in (left, right)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(np.concatenate(padded, axis=1)[:, :-GAP], path)
    except OSError as error:
        raise UserError(f"--sheet {path}: cannot be written ({error.strerror or error}); give another place") from None


def sheet(side: Side) -> np.ndarray:
    """The contact sheet, uint8 [H, W, 3], of the trial or of the study's best trial. Raises UserError if there
    is none.
    """
    import numpy as np
    from mlflow.exceptions import MlflowException
    from PIL import Image

    def rank(run: Run) -> tuple[float, float]:
        known = run.data.metrics
        return known.get(FVD_LONG, float("inf")), known.get(LATENT_FD_BEST, float("inf"))

    with tempfile.TemporaryDirectory(prefix="svgan-sheet-") as folder:
        for run in sorted(side.runs, key=rank):
            try:
                path = side.tracking.client.download_artifacts(run.info.run_id, SHEET, folder)
            except (MlflowException, OSError):
                continue
            with Image.open(path) as picture:
                return np.asarray(picture.convert("RGB"))
    raise UserError(f"--sheet: {side.label} has no {SHEET} in MLflow yet; a trial logs one at its first rung")
