"""What the platform itself costs: a study whose trials train for one second, through everything that a real one uses.

    python bench/platform_overhead.py                     10 trials at concurrency 1, then at 2
    python bench/platform_overhead.py --memory            PSS by kind of process on a head, at 1, 2 and 4 trials
    python bench/platform_overhead.py --reports 40 --seconds 10     how much reports slow a loop down

The trials' loop is a toy: it keeps a core busy for a second in eight parts, and after each reports a checkpoint of a
real size to Ray Train and figures to MLflow, as reporter.RankZeroReporter does. Searcher, scheduler, trainer,
ledger, Optuna's and MLflow's storage are the real ones. Times are of the clock, so let the machine be idle.
For memory a study joins a head that `ray start` made, as on a cluster: what each trial adds there, its workers aside,
is what a head must have for it (room.TRIAL_GB).
Cost: 2 min on two idle cores, 4 with --memory. What came out, and what helped: bench/LOG.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processes import Watch, load
from rich.console import Console
from rich.table import Table

ASKED = "SVGAN_BENCH"  # a JSON object for the loop: folder, seconds, reports, silent


def toy_loop(config: dict[str, Any]) -> dict[str, Any]:
    """Busy for `seconds` in `reports` parts; the times of its life go to a file named by the trial's number."""
    entered = time.monotonic()
    import ray.train
    import torch
    from safetensors.torch import save_file

    from sweeps.storage.plan import Plan
    from sweeps.storage.trial_outcome import FINISHED
    from sweeps.tracking.trial_log import TrialLog

    plan, asked = Plan.from_json(config["plan"]), json.loads(os.environ[ASKED])
    torch.set_num_threads(1)
    first_rank = ray.train.get_context().get_world_rank() == 0
    if first_rank:
        log = TrialLog(plan, config["number"])
        log.open(config["run"], 1)
    first, working, blocked = time.monotonic(), 0.0, []
    for step in range(1, asked["reports"] + 1):
        clock = time.perf_counter()
        while time.perf_counter() - clock < asked["seconds"] / asked["reports"]:
            torch.randn(64, 64) @ torch.randn(64, 64)
        working += time.perf_counter() - clock
        figures = {"step": step, "latent_fd": 1 / step, "latent_fd_best": 1 / step, "best_step": step}
        if not first_rank:
            ray.train.report({"step": step})
        elif not asked["silent"]:
            with tempfile.TemporaryDirectory() as folder:
                save_file({"weights": torch.zeros(100_000)}, Path(folder, "state.safetensors"))
                log.metrics(step, {"latent_fd": 1 / step, "latent_fd_best": 1 / step})
                clock = time.perf_counter()
                ray.train.report(figures, checkpoint=ray.train.Checkpoint.from_directory(folder))
                blocked.append(time.perf_counter() - clock)
    if not first_rank:
        return {}
    times = {"entered": entered, "first": first, "last": time.monotonic(), "working": working, "blocked": blocked}
    Path(asked["folder"], f"{config['number']}.json").write_text(json.dumps(times))
    return {**figures, FINISHED: True}


@contextlib.contextmanager
def head(cores: int) -> Iterator[int]:
    """A cluster's head for so many workers, as `ray start` makes it, joined by what is begun within; its process."""
    import psutil

    with contextlib.ExitStack() as held:
        ports = [held.enter_context(socket.socket()) for _ in range(2)]
        for item in ports:
            item.bind(("127.0.0.1", 0))
        cluster, dashboard = (str(item.getsockname()[1]) for item in ports)
    sessions = tempfile.mkdtemp(prefix="svgan-ray-", dir="/tmp")  # Ray's sockets take paths of up to 107 bytes
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": f"127.0.0.1:{cluster}"}
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--port", cluster, "--dashboard-port", dashboard, "--temp-dir", sessions]
    command += ["--num-cpus", str(cores), "--resources", f'{{"trial_slot": {cores}}}']
    started = subprocess.Popen(
        [*command, "--object-store-memory", str(256 * 2**20)],
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", int(dashboard))):
                    break
            time.sleep(0.3)
        yield started.pid
    finally:
        for process in [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        started.wait()
        shutil.rmtree(sessions, ignore_errors=True)


def one_study(trials: int, concurrency: int, workers: int, ray_head: int | None) -> dict[str, Any]:
    """Run the toy study here and now, on `ray_head` where there is one, whose memory is looked at then. Its times are
    by the monotonic clock, which all processes share and which stands still while a virtual machine is paused."""
    began = time.monotonic()
    import optuna

    from sweeps import study
    from sweeps.search.tune_adapter import CoreSearcher

    asked, told, suggest, complete = {}, {}, CoreSearcher.suggest, CoreSearcher.on_trial_complete

    def timed_suggest(self: CoreSearcher, trial_id: str) -> Any:
        answer = suggest(self, trial_id)
        if isinstance(answer, dict):
            asked[trial_id] = (answer["number"], time.monotonic())
        return answer

    def timed_complete(self: CoreSearcher, trial_id: str, *arguments: Any, **named: Any) -> None:
        complete(self, trial_id, *arguments, **named)
        told[asked[trial_id][0]] = time.monotonic()

    CoreSearcher.suggest, CoreSearcher.on_trial_complete = timed_suggest, timed_complete  # type: ignore[method-assign]
    folder = Path(json.loads(os.environ[ASKED])["folder"])
    toy = study.Study("overhead", {"gap_weight": optuna.distributions.FloatDistribution(0, 1)}, clips=0, reports=8)
    flags = ["--name", "bench", "--trials", str(trials), "--steps", "8", "--concurrency", str(concurrency)]
    flags += ["--workers", str(workers)]
    memory, more = ray_head is not None, [] if ray_head is None else [ray_head]
    with Watch(every=1.0 if memory else 0.2, memory=memory, more=more) as watch:
        study.run(toy, [*flags, "--tracking", f"sqlite:///{folder}/mlflow.db"], loop=toy_loop)
    asked_at = [at for _, at in sorted(asked.values())]
    told_at = [told[number] for number in sorted(told)]
    numbers = sorted(told)
    loops = [json.loads((folder / f"{number}.json").read_text()) for number in numbers]
    return {
        "trials": len(told),
        "start": min(asked_at) - began,
        "a_trial": (max(told_at) - min(asked_at)) / len(told),
        "end": time.monotonic() - max(told_at),
        "to_loop": statistics.median(loop["entered"] - at for loop, at in zip(loops, asked_at, strict=True)),
        "to_step": statistics.median(loop["first"] - at for loop, at in zip(loops, asked_at, strict=True)),
        "to_told": statistics.median(at - loop["last"] for loop, at in zip(loops, told_at, strict=True)),
        "in_loop": statistics.median(loop["last"] - loop["first"] for loop in loops),
        "working": statistics.median(loop["working"] for loop in loops),
        "report": statistics.median([part for loop in loops for part in loop["blocked"]] or [0.0]),
        "blocked": statistics.median(sum(loop["blocked"]) for loop in loops),
        "cpu": watch.cpu_by_kind(),
        "memory": watch.memory_by_kind(concurrency * workers),
        "load": load(),
    }


def measured(arguments: argparse.Namespace, concurrency: int, **change: Any) -> dict[str, Any]:
    """`one_study` in a process, a folder and a Ray of its own."""
    with tempfile.TemporaryDirectory(prefix="svgan-bench-") as folder:
        asked = {"folder": folder, "seconds": arguments.seconds, "reports": arguments.reports, "silent": False} | change
        result = Path(folder, "result.json")
        trials = concurrency if arguments.memory else arguments.trials
        command = [sys.executable, __file__, "--trials", str(trials), "--concurrency", str(concurrency)]
        command += ["--workers", str(arguments.workers), "--result", str(result)]
        command += ["--memory"] if arguments.memory else []
        environment = os.environ | {ASKED: json.dumps(asked), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"the study failed:\n{done.stdout}\n{done.stderr}")
        return json.loads(result.read_text())


def show(results: dict[str, dict[str, Any]]) -> None:
    """The figures as tables, one column per study."""
    console = Console(width=110)
    table = Table("seconds", *results, title=f"{next(iter(results.values()))['load']}", title_justify="left")
    lines = {
        "a_trial": "wall per completed trial",
        "start": "start: command to first trial handed out",
        "to_loop": "trial handed out to its loop entered",
        "to_step": "trial handed out to its first step",
        "in_loop": "the loop",
        "working": "  of it training",
        "blocked": "  of it blocked in report",
        "report": "  one report",
        "to_told": "last step to told",
        "end": "end: last trial told to exit",
    }
    for key, text in lines.items():
        table.add_row(text, *(f"{result[key]:.2f}" for result in results.values()))
    console.print(table)
    for key, unit in (("cpu", "CPU seconds a trial"), ("memory", "PSS in MB, all of a kind together")):
        kinds = list(dict.fromkeys(kind for result in results.values() for kind in result[key]))
        if not kinds:
            continue
        table = Table(unit, *results)
        for kind in kinds:
            cells = []
            for result in results.values():
                first, second = result[key].get(kind, (0, 0))
                share = result["trials"] if key == "cpu" else 1
                cells.append(
                    f"{first / share:.2f}  ({second} processes)" if key == "cpu" else f"{second:.0f}  ({first:g})"
                )
            table.add_row(kind, *cells)
        if key == "memory":
            table.add_row("all but the training workers", *(f"{beside(result):.0f}" for result in results.values()))
        else:
            table.add_row("all", *(f"{sum(s for s, _ in r[key].values()) / r['trials']:.2f}" for r in results.values()))
        console.print(table)


def beside(result: dict[str, Any]) -> float:
    """MB of all processes but the training workers."""
    return sum(mb for kind, (_, mb) in result["memory"].items() if kind != "RayTrainWorker")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--trials", type=int, default=10, metavar="N", help="of each study [%(default)s]")
    p.add_argument("--concurrency", type=int, metavar="N", help="trials at a time [1, then 2]")
    p.add_argument("--workers", type=int, default=1, metavar="N", help="of each trial [%(default)s]")
    p.add_argument("--seconds", type=float, metavar="X", help="a trial's training [1, with --memory 40]")
    p.add_argument("--reports", type=int, default=8, metavar="N", help="in it [%(default)s]")
    p.add_argument("--silent", action="store_true", help="also with loops that report nothing")
    p.add_argument("--memory", action="store_true", help="PSS by kind of process on a cluster's head, at 1, 2 and 4")
    p.add_argument("--result", help=argparse.SUPPRESS)
    asked = p.parse_args()
    if asked.result:
        with head(asked.concurrency * asked.workers) if asked.memory else contextlib.nullcontext() as ray_head:
            found = one_study(asked.trials, asked.concurrency, asked.workers, ray_head)
        Path(asked.result).write_text(json.dumps(found))
        return
    asked.seconds = asked.seconds or (40.0 if asked.memory else 1.0)  # enough for all to be there at once
    results = {}
    for concurrency in [asked.concurrency] if asked.concurrency else [1, 2, 4] if asked.memory else [1, 2]:
        results[f"{concurrency} at a time"] = measured(asked, concurrency)
        if asked.silent:
            results[f"{concurrency}, silent"] = measured(asked, concurrency, silent=True)
    show(results)
    if asked.memory and len(results) > 1:
        few, many = (beside(results[f"{count} at a time"]) for count in (1, 4))
        each = (many - few) / 3
        print(
            f"a trial adds {each:.0f} MB to its head; with 100 at a time it would use {(few + 99 * each) / 1000:.0f} GB"
        )


if __name__ == "__main__":
    main()
