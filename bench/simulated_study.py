"""How far one driver goes: a study of thousands of trials, 200 at a time, without training and without Ray.

    python bench/simulated_study.py                        at 0, 1000 and 10 000 trials (idle, some 10 min)
    python bench/simulated_study.py --sizes 0 500          quicker

The real core, its log, Optuna's storage and TrialLog. A study that already has so many trials is made by writing its
record and MLflow's database in bulk; then 200 trials are out, and asks, reports, tells and MLflow's writes
are timed one by one as the driver makes them. Driver memory is this process's. What came out: bench/LOG.md.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from processes import load
from rich.console import Console
from rich.table import Table

from svgan.errors import UserError
from sweeps.record.entries import Entry, Proposed
from sweeps.record.state import StudyState
from sweeps.storage.metric_names import LATENT_FD_BEST as FIGURE
from sweeps.storage.plan import Plan

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

CONCURRENCY, STEPS, REPORTS = 200, 1000, 8
TABLES = ("runs", "tags", "params", "metrics", "latest_metrics")


def plan_of(folder: Path, tracking: str, record: str, trials: int) -> Plan:
    return Plan.from_fields(dict(
        study="simulated", name="simulated", recipe="tiny", metric="latent_fd", domain="default", controls=2,
        trials=trials, steps=STEPS, workers=1, cpus_per_worker=1, gpus_per_worker=0, concurrency=CONCURRENCY,
        latents="none", storage=str(folder), folder=str(folder / "simulated"), tracking=tracking, experiment="svgan",
        model="m", seed=0, clips=64, precision="float32", reports=REPORTS, rungs=(250, 500), reduction=3, optuna=record,
        objectives=(), grid={},
    ))  # fmt: skip


def space(trial: Any) -> dict[str, Any]:
    return {
        "gap_weight": trial.suggest_float("gap_weight", 0.0, 20.0),
        "lr": trial.suggest_float("lr", 1e-4, 1e-2, log=True),
        "width": trial.suggest_int("width", 8, 64, step=8),
    }


def merit(params: dict[str, Any], step: int) -> float:
    """A figure that falls with the steps and has its best at gap_weight 5."""
    return 0.2 + (params["gap_weight"] - 5) ** 2 / 1000 + params["width"] / 1000 + 1 / (step + 10)


class Clock:
    """Seconds of calls by name."""

    def __init__(self) -> None:
        self.laps: dict[str, list[float]] = {}

    def __call__(self, name: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*arguments, **named)
        finally:
            self.laps.setdefault(name, []).append(time.perf_counter() - began)

    def figures(self) -> dict[str, tuple[float, float]]:
        """Median and 95th percentile in milliseconds."""
        found = {}
        for name, laps in self.laps.items():
            ranked = sorted(laps)
            found[name] = (1000 * statistics.median(ranked), 1000 * ranked[int(0.95 * (len(ranked) - 1))])
        return found


def ended_trials(count: int) -> list[Entry]:
    """The entries of so many ended trials: a ninth finished, the others pruned at a rung, each with its reports."""
    from optuna.distributions import FloatDistribution, IntDistribution, distribution_to_json

    from sweeps.record.entries import Ended, Proposed, Queued, Reported

    draw = random.Random(0)
    kinds = {
        "gap_weight": distribution_to_json(FloatDistribution(0.0, 20.0)),
        "lr": distribution_to_json(FloatDistribution(1e-4, 1e-2, log=True)),
        "width": distribution_to_json(IntDistribution(8, 64, step=8)),
    }
    entries: list[Entry] = [Queued(points=[])]
    for number in range(count):
        params = {"gap_weight": draw.uniform(0, 20), "lr": 10 ** draw.uniform(-4, -2), "width": 8 * draw.randint(1, 8)}
        last = draw.choices([250, 500, 1000], [6, 2, 1])[0]
        entries.append(Proposed(number=number, params=params, point=params, distributions=kinds))
        entries += [Reported(number=number, step=step, value=merit(params, step)) for step in range(125, last + 1, 125)]
        figures = {FIGURE: merit(params, last)} if last == STEPS else {}
        entries.append(Ended(number=number, ending="finished" if figures else "pruned", step=last, figures=figures))
    return entries


def search_costs(folder: Path, record_uri: str, size: int, asks: int) -> tuple[dict[str, tuple[float, float]], float]:
    """ask, report and tell of a driver whose study has `size` trials and 200 out; and the process's memory in MB."""
    from sweeps.record.core import Core
    from sweeps.record.entries import Driven
    from sweeps.search.optuna_store import open_log, open_mirror
    from sweeps.search.proposer import StudyRules

    plan, clock = plan_of(folder, "sqlite:///none", record_uri, size + CONCURRENCY + asks + 1000), Clock()
    Path(plan.output.folder).mkdir(parents=True)
    open_log(plan, "before").start_with(ended_trials(size))
    core = clock(
        "open", Core, open_log(plan, "driver"), StudyRules(plan, space), trials=plan.search.trials,
        objectives=plan.search.objective_keys, followers=[open_mirror(plan)],
    )  # fmt: skip
    clock("take over, Optuna's file empty", core.begin, Driven(driver="driver"))
    clock("take over", core.begin, Driven(driver="driver"))
    with_sampler, out = core.rules, []
    core.rules = RandomRules()  # the first are drawn at random: what is timed is the 200th and later ones
    for _ in range(CONCURRENCY):
        out.append(core.next())
    core.rules = with_sampler
    for _ in range(asks):
        trial, step, pruned = out.pop(0), 0, False
        params = trial.proposal.params
        while not pruned and step < STEPS:
            step += STEPS // REPORTS
            pruned = clock("report", core.report, trial.number, step, merit(params, step))
        how = "pruned" if pruned else "finished"
        clock("tell", core.end, trial.number, how, step, {FIGURE: merit(params, step)})
        out.append(clock("ask", core.next))
    return clock.figures(), psutil.Process().memory_info().rss / 2**20


class RandomRules:
    """Trials drawn at random, none pruned."""

    def __init__(self) -> None:
        self.draw = random.Random(1)

    def propose(self, state: StudyState) -> Proposed:
        kinds = next((trial.proposal.distributions for trial in state.trials), {})
        drawn = {"gap_weight": self.draw.uniform(0, 20), "lr": 10 ** self.draw.uniform(-4, -2), "width": 8}
        return Proposed(number=len(state.trials), params=drawn, point=drawn if kinds else {}, distributions=kinds)

    def prunes(self, state: StudyState, number: int, step: int, value: float) -> bool:
        return False


def log_trial(plan: Plan, number: int, clock: Clock, attempt: int = 1) -> int:
    """All that a trial writes to MLflow, by driver and rank 0; returns the number of writes."""
    import svgan.systems  # noqa: F401  (registers them)
    from svgan.training import recipes
    from sweeps.tracking.trial_log import TrialLog

    config = recipes.make("tiny", steps=STEPS).to_json()
    clock("open by the driver", lambda: TrialLog(plan, number).open(config))
    log = clock("open by rank 0", TrialLog, plan, number)
    clock("open by rank 0", log.open, config, attempt, "cpu")
    for step in range(STEPS // REPORTS, STEPS + 1, STEPS // REPORTS):
        names = ("latent_fd", "latent_fd_best", "critic_loss", "generator_loss", "gradient_penalty", "steps_done")
        clock("figures of a step", log.metrics, step, dict.fromkeys(names, 0.5))
    clock("close by the driver", lambda: TrialLog(plan, number).close("finished"))
    return 3 + REPORTS


def fill_mlflow(plan: Plan, count: int) -> None:
    """So many runs of this study, each with its tags, parameters and figures, written as rows."""
    import sqlalchemy

    import svgan.systems  # noqa: F401  (registers them)
    from svgan.training import recipes
    from sweeps.tracking.client import Tracking

    tracking = Tracking(plan)
    template = tracking.trial(0, recipes.make("tiny", steps=STEPS).to_json())
    clock = Clock()
    log_trial(plan, 0, clock)
    with sqlalchemy.create_engine(plan.output.tracking).begin() as connection:
        schema = sqlalchemy.MetaData()
        schema.reflect(connection, only=TABLES)
        tables = [schema.tables[name] for name in TABLES]
        rows = {
            table.name: [dict(r) for r in connection.execute(table.select().filter_by(run_uuid=template)).mappings()]
            for table in tables
        }
        for start in range(0, count, 500):
            for table in tables:
                copies = [
                    row | {"run_uuid": f"{number:032x}"} | _own(row, number)
                    for number in range(start, min(start + 500, count))
                    for row in rows[table.name]
                ]
                if copies:
                    connection.execute(table.insert(), copies)


def _own(row: dict[str, Any], number: int) -> dict[str, str]:
    """What differs from run to run: the trial's number, kept apart from those that are timed."""
    return {"value": str(number + 1_000_000)} if row.get("key") == "svgan.trial" else {}


def writer(plan_fields: dict[str, Any], first: int, seconds: float, answers: Any) -> None:
    """One of several processes that log trials as fast as they can; says how many writes and how long each took."""
    plan, clock, number, writes = Plan.from_json(plan_fields), Clock(), first + 1, 0
    log_trial(plan, first, Clock())
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        writes += log_trial(plan, number, clock)
        number += 1
    answers.put((writes / (time.monotonic() - began), clock.laps))


def mlflow_costs(folder: Path, uri: str, size: int, processes: int, seconds: float) -> dict[str, Any]:
    """A trial's writes one by one, then writes a second by several processes at once."""
    from sweeps.ray_runtime import log_capture
    from sweeps.tracking.client import Tracking

    log_capture.settings()
    plan = plan_of(folder, uri, "", size + 2)

    Tracking(plan).parent()
    fill_mlflow(plan, size)
    alone = Clock()
    for number in range(1, 6):
        log_trial(plan, number, alone)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    members = [
        context.Process(target=writer, args=(plan.to_json(), 1000 * (member + 1), seconds, answers))
        for member in range(processes)
    ]
    for member in members:
        member.start()
    got = [answers.get() for _ in members]
    for member in members:
        member.join()
    together = Clock()
    for _, laps in got:
        for name, times in laps.items():
            together.laps.setdefault(name, []).extend(times)
    return {
        "alone": alone.figures(),
        "together": together.figures(),
        "a_second": sum(rate for rate, _ in got),
        "runs": _timed(lambda: len(Tracking(plan).runs())),
    }


def _timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextlib.contextmanager
def databases(kind: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Addresses of an empty MLflow database and an empty record of Optuna."""
    if kind != "PostgreSQL":
        yield f"sqlite:///{folder}/mlflow.db", "journal" if kind == "journal" else ""
        return
    import postgres_server
    import psycopg

    try:
        found = postgres_server.binaries()
    except UserError as error:
        raise SystemExit(f"{error}; or leave it out: --stores SQLite journal") from None
    with postgres_server.running(found, fsync="on") as url:
        for name in ("mlflow", "optuna"):
            with psycopg.connect(f"{url}postgres", autocommit=True) as connection:
                connection.execute(f"create database {name}".encode())
        address = url.replace("postgresql://", "postgresql+psycopg://")
        yield f"{address}mlflow", f"{address}optuna"


def show(title: str, columns: dict[str, dict[str, tuple[float, float]]]) -> None:
    table = Table(title, *columns, title=f"median (95 %) in ms; {load()}", title_justify="left")
    for name in dict.fromkeys(name for figures in columns.values() for name in figures):
        cells = [
            f"{figures[name][0]:.1f} ({figures[name][1]:.1f})" if name in figures else ""
            for figures in columns.values()
        ]
        table.add_row(name, *cells)
    Console(width=130).print(table)


def in_a_process(call: Callable[..., Any], *arguments: Any) -> Any:
    """The call's answer, from a process of its own: memory figures start from nothing."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sizes", type=int, nargs="+", default=[0, 1000, 10_000], metavar="N", help="trials before")
    p.add_argument(
        "--asks", type=int, default=30, metavar="N", help="trials asked and ended at each size [%(default)s]"
    )
    p.add_argument("--stores", nargs="+", default=["SQLite", "journal", "PostgreSQL"], metavar="NAME")
    p.add_argument("--processes", type=int, default=4, metavar="N", help="that write to MLflow at once [%(default)s]")
    p.add_argument("--seconds", type=float, default=10.0, metavar="X", help="for which they write [%(default)s]")
    asked = p.parse_args()
    console = Console(width=130)
    for kind in asked.stores:
        columns, memory, writes, speed = {}, {}, {}, {}
        for size in asked.sizes:
            with (
                tempfile.TemporaryDirectory(prefix="svgan-simulated-") as name,
                databases(kind, Path(name)) as (mlflow, record),
            ):
                figures, memory[size] = in_a_process(search_costs, Path(name), record, size, asked.asks)
                columns[f"{size} trials"] = figures
                if kind != "journal":
                    costs = in_a_process(mlflow_costs, Path(name), mlflow, size, asked.processes, asked.seconds)
                    writes[f"{size} runs"] = costs["alone"]
                    writes[f"{size}, {asked.processes} at once"] = costs["together"]
                    speed[size] = costs
        show(f"Optuna in {kind}, {CONCURRENCY} trials out", columns)
        console.print("driver memory: " + ", ".join(f"{mb:.0f} MB at {size} trials" for size, mb in memory.items()))
        if writes:
            show(f"MLflow in {kind}", writes)
            for size, costs in speed.items():
                console.print(
                    f"{size} runs: {costs['a_second']:.0f} writes a second; reading all runs {costs['runs']:.2f} s"
                )


if __name__ == "__main__":
    main()
