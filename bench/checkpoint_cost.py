"""The share of a training loop's time that checkpoints between two reports take (`--checkpoint-minutes`).

    python bench/checkpoint_cost.py                     3 pairs of tiny, 300 steps each
    python bench/checkpoint_cost.py --recipe pca --steps 40 --minutes 0.1

A pair is a study of one trial without such checkpoints and one with them, each with a Ray of its own, in turn. The
trial's loop is the real one, its checkpoints go to the storage in Ray's asynchronous mode, and nothing is reported
before the end. Two figures are taken of a run by clocks of the loop's own thread, so that other work on the machine
counts little: the seconds for which the loop was held between two iterations, over those of the whole loop; and the
thread's CPU seconds for each step. MINUTES is far less than the default of 10: checkpoints then come as often as
`checkpoint_timer.interval` allows, and what they take is the most that they ever take.
Cost: 2 to 3 min on two idle cores. What came out: bench/LOG.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import load
from rich.console import Console
from rich.table import Table

ASKED = "SVGAN_BENCH"  # a JSON object for the loop: the file of its result
DEFAULT_SECONDS = 600.0


def timed_loop(config: dict[str, Any]) -> dict[str, Any] | None:
    """The workers' real loop, whose clocks go to a file."""
    from sweeps.trial import checkpoint_timer, worker

    inner, kept = worker.iterate, checkpoint_timer.CheckpointTimer.kept
    begins, ends, cpu, held = [], [], [], []

    def iterate(state: Any, source: Any, process: Any) -> Any:
        begins.append(time.perf_counter())
        cpu.append(time.thread_time())
        figures = inner(state, source, process)
        ends.append(time.perf_counter())
        return figures

    def noted(self: Any, seconds: float, folder: Path) -> None:
        held.append((seconds, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())))
        kept(self, seconds, folder)

    worker.iterate = iterate  # type: ignore[assignment]
    checkpoint_timer.CheckpointTimer.kept = noted  # type: ignore[method-assign, assignment]
    outcome = worker.train_loop(config)
    between = sum(after - before for before, after in zip(ends, begins[1:], strict=False))
    result = {
        "share": between / (ends[-1] - begins[0]),
        "cpu": (cpu[-1] - cpu[0]) / (len(cpu) - 1),
        "seconds": ends[-1] - begins[0],
        "held": [seconds for seconds, _ in held],
        "bytes": max((size for _, size in held), default=0),
    }
    Path(json.loads(os.environ[ASKED])["result"]).write_text(json.dumps(result))
    return outcome


def one_study(recipe: str, steps: int, minutes: float) -> None:
    """Run the study here and now."""
    import optuna

    from sweeps import study

    asked = study.Study(
        "checkpoints", {"gap_weight": optuna.distributions.FloatDistribution(10, 10)}, recipe=recipe, clips=0, reports=1
    )
    flags = ["--name", "bench", "--trials", "1", "--steps", str(steps), "--concurrency", "1"]
    flags += ["--tracking", f"sqlite:///{Path.cwd()}/mlflow.db", "--checkpoint-minutes", str(minutes)]
    study.run(asked, flags, loop=timed_loop)


def measured(recipe: str, steps: int, minutes: float) -> dict[str, Any]:
    """`one_study` in a process, a folder and a Ray of its own."""
    with tempfile.TemporaryDirectory(prefix="svgan-bench-") as folder:
        result = Path(folder, "result.json")
        command = [sys.executable, __file__, "--recipe", recipe, "--steps", str(steps), "--minutes", str(minutes)]
        environment = os.environ | {ASKED: json.dumps({"result": str(result)}), "RAY_ADDRESS": "local"}
        done = subprocess.run([*command, "--one"], cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"the study failed:\n{done.stdout}\n{done.stderr}")
        found: dict[str, Any] = json.loads(result.read_text())
        return found


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--recipe", default="tiny", metavar="NAME", help="[%(default)s]")
    p.add_argument("--steps", type=int, default=300, metavar="N", help="of each run [%(default)s]")
    p.add_argument("--minutes", type=float, default=0.05, metavar="MIN", help="asked between two [%(default)s]")
    p.add_argument("--pairs", type=int, default=3, metavar="N", help="[%(default)s]")
    p.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = p.parse_args()
    if asked.one:
        one_study(asked.recipe, asked.steps, asked.minutes)
        return
    table = Table("pair", "without: held", "with: held", "checkpoints", "CPU a step, with over without")
    shares, ratios, held = [], [], []
    for pair in range(asked.pairs):
        without, with_them = (measured(asked.recipe, asked.steps, minutes) for minutes in (0, asked.minutes))
        shares.append(with_them["share"] - without["share"])
        ratios.append(with_them["cpu"] / without["cpu"])
        held += with_them["held"]
        told = f"{len(with_them['held'])} in {with_them['seconds']:.0f} s, of {with_them['bytes'] / 1e6:.1f} MB"
        table.add_row(str(pair + 1), f"{without['share']:.2%}", f"{with_them['share']:.2%}", told, f"{ratios[-1]:.3f}")
    console = Console(width=110)
    console.print(table)
    often = statistics.median(shares)
    each = statistics.median(held)
    console.print(f"{asked.recipe}, {load()}: as often as may be, {often:.2%} of the loop's time (median of pairs),")
    console.print(f"CPU a step {statistics.median(ratios):.3f} times as much; one holds the loop for {each:.3f} s,")
    console.print(f"so {each / DEFAULT_SECONDS:.3%} of its time with the default of 10 minutes")


if __name__ == "__main__":
    main()
