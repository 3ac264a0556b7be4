"""`python -m sweeps status [NAME]`."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from svgan.errors import one_line
from svgan.metrics.names import FVD_LONG, FVD_SHORT
from sweeps.commands import find_study
from sweeps.storage.metric_names import GPU_HOURS, LATENT_FD_BEST
from sweeps.storage.tag_names import OUTCOME, ROLE, SWEEP

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from rich.table import Table

    from sweeps.reports.trial_table import Row
    from sweeps.storage.plan import Plan

HELP = "table of studies, or of one study's trials"
ABOUT = """Show what a study is doing or has done, on one screen.

  python -m sweeps status              all studies of the experiment
  python -m sweeps status gap-1        its trials: the parameters that differ, steps, figures, time left
  watch -n 10 python -m sweeps status gap-1

Below the table: whether its driver is alive, the trials and time left, what each running trial does at the moment,
GPU-hours used so far (core-hours if trials have no GPU), and why trials failed. With more than 20 trials it shows the
best 20 and those that have not ended; `export` has all. States: running, scoring, finished, stopped (pruned at a rung),
failed, halted (by stop or Ctrl-C), cut (its driver died). --resume continues halted and cut trials.
While MLflow is away, the table comes from Optuna's record, which has FVD only if it is an objective.
"""
REASONS, EVENTS = 6, 3


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a study's name [all studies]")
    find_study.add_flags(parser)


def run(asked: argparse.Namespace) -> None:
    from rich.console import Console

    from sweeps.reports.trial_table import render

    console = Console(highlight=False)
    if not asked.name:
        client, experiment = find_study.known_experiment(
            find_study.tracking_uri(asked), asked.experiment or find_study.EXPERIMENT
        )
        console.print(studies(client, experiment))
        return
    plan = find_study.find_plan(asked, asked.name)
    alive = find_study.alive(plan)
    rows, away = trials(plan, alive)
    rows = with_signs(plan, rows)
    console.print(render(rows, plan.name, plan.search.rungs))
    ahead = (driver_lines(plan, rows, alive), life_lines(plan, rows, alive), used_lines(plan))
    for text in (*away, *itertools.chain(*ahead, failure_lines(plan, rows), told_lines(plan))):
        console.print(text, markup=False, soft_wrap=True)


def trials(plan: Plan, alive: bool | None) -> tuple[list[Row], list[str]]:
    """The rows of the trials from MLflow. If it cannot be reached, they come from the study's record, and a line says
    so.
    """
    from svgan.errors import UserError
    from sweeps.reports.trial_table import rows_of, rows_of_record
    from sweeps.search.optuna_store import open_study

    try:
        return rows_of(find_study.open_tracking(plan).runs(), alive is not False), []
    except UserError as error:
        try:
            kept = open_study(plan).get_trials(deepcopy=False)
        except UserError:
            raise error from None
        return rows_of_record(kept, plan, alive is not False), [f"this is the study's record, for {error}"]


def with_signs(plan: Plan, rows: list[Row]) -> list[Row]:
    """The rows with the last sign of life of each trial that goes on, as far as the storage can be read."""
    import dataclasses

    from svgan.io import storage
    from sweeps.reports.trial_table import GOING_ON
    from sweeps.storage import life

    found = []
    for row in rows:
        sign = None
        if row.status in GOING_ON:
            with contextlib.suppress(*storage.ERRORS):
                sign = life.read(plan, row.number)
        found.append(dataclasses.replace(row, doing=sign))
    return found


def life_lines(plan: Plan, rows: Sequence[Row], alive: bool | None) -> Iterator[str]:
    """What the running trials, or the promotion, do at the moment."""
    from svgan.io import storage
    from sweeps.storage import life

    yield from (f"trial {row.number}: {row.doing}" for row in rows if row.doing)
    if alive is not False:
        with contextlib.suppress(*storage.ERRORS):
            if sign := life.read(plan, None):
                yield f"promotion: {sign}"


def driver_lines(plan: Plan, rows: Sequence[Row], alive: bool | None) -> Iterator[str]:
    """Who runs the study, how many trials have ended, and the time left. alive: None if the driver is on another
    machine.
    """
    from svgan.training.reporter import duration
    from sweeps.driver.flags import resume_command
    from sweeps.reports.trial_table import ENDED, time_left
    from sweeps.storage import driver_lock, stop_request

    states = [row.status for row in rows]
    ended = sum(state in ENDED for state in states)
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    waiting = max(0, plan.search.trials - len(rows))
    counts += [f"{waiting} not started"] * (waiting > 0)
    yield f"{ended} of {plan.search.trials} trials are over: {', '.join(counts)}"
    if alive is None:
        yield f"its folder is not on this machine ({plan.output.folder}), so whether its driver lives is not known here"
    elif alive:
        left = time_left(rows, plan.search.trials, plan.compute.concurrency)
        yield f"{driver_lock.holder(plan)} runs it" + ("" if left is None else f"; about {duration(left)} left")
        if stop_request.requested(plan):
            yield "it was asked to stop, and ends when the running trials have kept their state"
    elif ended < plan.search.trials:
        yield f"no driver runs it; go on with: {resume_command(plan)}"
    else:
        yield "it is over"


def used_lines(plan: Plan) -> Iterator[str]:
    """What the trials have used by their last reports, beside the budget."""
    from svgan.io import storage
    from sweeps.storage import usage

    with contextlib.suppress(*storage.ERRORS):
        if seconds := sum(usage.recall(plan).values()):
            budget = (
                "" if plan.compute.max_gpu_hours is None else f" of {plan.compute.max_gpu_hours:g} (--max-gpu-hours)"
            )
            yield f"used: {usage.describe(plan, usage.counted(plan, seconds))}{budget}"


def failure_lines(plan: Plan, rows: Sequence[Row]) -> Iterator[str]:
    """Each reason of failure once, with its trials, and where its traceback is."""
    struck: dict[str, list[int]] = {}
    for row in rows:
        if row.status == "failed":
            struck.setdefault(one_line(row.note, 300) or "no reason was kept", []).append(row.number)
    for reason, numbers in list(struck.items())[:REASONS]:
        who = f"trial {numbers[0]}" if len(numbers) == 1 else f"trials {', '.join(map(str, numbers))}"
        yield f"{who} failed: {reason}"
        trace = Path(
            plan.output.storage.removeprefix("file://"), plan.name, "tune", f"trial-{numbers[0]:04d}", "error.txt"
        )
        if trace.exists():
            yield f"  the whole of it: cat {shlex.quote(str(trace))}"
    if len(struck) > REASONS:
        yield f"and {len(struck) - REASONS} other reasons: python -m sweeps export {plan.name} --out trials.csv"


def told_lines(plan: Plan) -> Iterator[str]:
    """The last messages of workers, and the number of writes that wait for MLflow."""
    from svgan.io import storage
    from sweeps.storage import events
    from sweeps.tracking import outbox

    with contextlib.suppress(*storage.ERRORS):
        yield from map(str, list(events.read(plan).values())[-EVENTS:])
        if waiting := sum(outbox.waiting(plan).values()):
            yield f"{waiting} writes wait for MLflow; when it is back: python -m sweeps sync {plan.name}"


def studies(client: MlflowClient, experiment: str) -> Table:
    """A table of the experiment's studies, newest first."""
    from rich.table import Table

    from sweeps.reports.trial_table import figure

    shown = Table(title="studies", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    figures = ("GPU hours", "latent FD", "FVD short", "FVD long")
    for column in ("study", "status", "trials", "finished", "stopped", "failed", *figures):
        left = column in ("study", "status")
        shown.add_column(column.replace(" ", "\n"), justify="left" if left else "right", overflow="fold")
    runs = client.search_runs([experiment], filter_string=f"tags.`{ROLE}` != ''", max_results=50_000)
    trials: dict[str, list[Run]] = {}
    for run in runs:
        if run.data.tags[ROLE] == "trial":
            trials.setdefault(run.data.tags[SWEEP], []).append(run)
    for study in (run for run in runs if run.data.tags[ROLE] == "study"):
        own = trials.get(study.data.tags[SWEEP], [])
        ended = [run.data.tags.get(OUTCOME) for run in own]
        best = [figure(_least(own, key)) for key in (LATENT_FD_BEST, FVD_SHORT, FVD_LONG)]
        hours = figure(sum(run.data.metrics[GPU_HOURS] for run in own if GPU_HOURS in run.data.metrics) or None)
        counts = [len(own), *(ended.count(outcome) for outcome in ("finished", "pruned", "failed"))]
        shown.add_row(study.data.tags[SWEEP], study.info.status.lower(), *map(str, counts), hours, *best)
    return shown


def _least(trials: list[Run], key: str) -> float | None:
    return min((run.data.metrics[key] for run in trials if key in run.data.metrics), default=None)
