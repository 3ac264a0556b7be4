"""`python -m sweeps export NAME --out FILE`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.io.atomic import write_whole
from sweeps.commands import find_study
from sweeps.storage.tag_names import TRIAL

if TYPE_CHECKING:
    import pandas
    from mlflow import MlflowClient
    from mlflow.entities import Run

HELP = "a study's trials, or their curves, as CSV or Parquet"
ABOUT = """Export one row per trial: number, status, params.*, metrics.* (last values), attempts, run_id, tags.*
(digests of what the figures depend on), started, ended, seconds, error.

  python -m sweeps export gap-1 --out trials.csv
  python -m sweeps export gap-1 --out curves.parquet --history      number, metric, step, value, time: a row per point

Read it with pandas.read_csv or pandas.read_parquet. The file is written atomically, and replaces an existing one.
"""
WRITERS: dict[str, Callable[[pandas.DataFrame, Path], None]] = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
}


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the study's name")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .csv or .parquet")
    parser.add_argument("--history", action="store_true", help="every point of every metric instead")
    find_study.add_flags(parser)


def run(asked: argparse.Namespace) -> None:
    from svgan.reports.progress import Stages, bars, plain_console

    if asked.out.suffix not in WRITERS:
        raise UserError(f"--out {asked.out}: give a name that ends in {' or '.join(WRITERS)}")
    plan = find_study.find_plan(asked, asked.name)
    tracking = find_study.open_tracking(plan)
    runs = tracking.runs()
    if not runs:
        raise UserError(f"{plan.name}: no trial has started, so there is nothing to export")
    if asked.history:
        with bars(plain_console()) as progress:
            frame = curves(tracking.client, runs, Stages(progress))
    else:
        frame = trials(runs, find_study.alive(plan) is not False)
    write(frame, asked.out)
    print(f"{asked.out}: {len(frame)} rows, {len(frame.columns)} columns, {len(runs)} trials")


def trials(runs: list[Run], alive: bool) -> pandas.DataFrame:
    """One row per trial's run. A column is numeric if all its values are."""
    import pandas

    from sweeps.reports.trial_table import rows_of

    records = []
    for run, row in zip(runs, rows_of(runs, alive), strict=True):
        tags, info = run.data.tags, run.info
        digests = {f"tags.{key}": value for key, value in tags.items() if not key.startswith(("svgan.", "mlflow."))}
        for elsewhere in ("attempts", "error"):
            digests.pop(f"tags.{elsewhere}", None)
        records.append(
            {
                "number": row.number,
                "status": row.status,
                **{f"params.{key}": _number(value) for key, value in sorted(run.data.params.items())},
                **{f"metrics.{key}": value for key, value in sorted(run.data.metrics.items())},
                "attempts": int(tags.get("attempts", "1")),
                "run_id": info.run_id,
                **dict(sorted(digests.items())),
                "started": pandas.Timestamp(info.start_time, unit="ms", tz="UTC"),
                "ended": pandas.Timestamp(info.end_time, unit="ms", tz="UTC") if info.end_time else pandas.NaT,
                "seconds": (info.end_time - info.start_time) / 1000 if info.end_time else None,
                "error": tags.get("error", ""),
            }
        )
    frame = pandas.DataFrame(records)
    order = ["number", "status", "params.", "metrics.", "attempts", "run_id", "tags.", "started", "ended", "seconds"]
    rank = {name: place for place, name in enumerate([*order, "error"])}
    columns = sorted(frame.columns, key=lambda name: rank[name.partition(".")[0] + "." * ("." in name)])
    frame = frame[columns]
    for name in columns:
        if name.startswith("params.") and not all(isinstance(value, int | float) for value in frame[name]):
            frame[name] = [None if value != value else str(value) for value in frame[name]]
    return frame


def _number(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def curves(client: MlflowClient, runs: list[Run], progress: Callable[[str, int, int], None]) -> pandas.DataFrame:
    """Every point of every metric, ordered by trial, metric and step."""
    import pandas

    records: list[tuple[Any, ...]] = []
    for done, run in enumerate(runs, start=1):
        for key in sorted(run.data.metrics):
            points = sorted(client.get_metric_history(run.info.run_id, key), key=lambda point: point.step)
            records += [(int(run.data.tags[TRIAL]), key, p.step, p.value, p.timestamp) for p in points]
        progress("trials", done, len(runs))
    frame = pandas.DataFrame(records, columns=["number", "metric", "step", "value", "time"])
    frame["time"] = pandas.to_datetime(frame["time"], unit="ms", utc=True)
    return frame


def write(frame: pandas.DataFrame, path: Path) -> None:
    """Write the frame as a file, atomically."""
    try:
        with write_whole(path) as aside:
            WRITERS[path.suffix](frame, aside)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror or error}); give another place") from None
