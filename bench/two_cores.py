"""What two cores give: two trials at once, and two workers of one trial at an equal global batch.

    python bench/two_cores.py                          recipe tiny at once, paper at 18 x 512 by two workers: 15 min
    python bench/two_cores.py --codes 2 16 --steps 1 --rounds 1 --seconds 1     a look at whether it runs

Two at once: what two trials of one thread reach together, of twice one's speed, over what two independent products of
matrices reach there. Two workers: what one worker of one thread takes for an iteration over what two of half the batch
take, gradients exchanged by gloo. Every process is new; ways are taken in turn. Let the machine be idle.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

SPAWN = multiprocessing.get_context("spawn")
GOALS = {"at once": 0.9, "workers": 1.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iteration", default="fast", choices=("plain", "fast"), help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=15, help="that two work at once [%(default)g]")
    parser.add_argument(
        "--steps", type=int, default=2, help="of two workers, after one that is not counted [%(default)s]"
    )
    parser.add_argument("--n-critic", type=int, default=1, help="critic steps of those [%(default)s]")
    parser.add_argument("--codes", type=int, nargs=2, default=(18, 512), metavar=("L", "D"), help="theirs [18 512]")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"{asked.iteration}, load {os.getloadavg()[0]:.1f}\n")
    print("| | alone | two | ratio (least to largest) | goal |\n|---|---|---|---|---|", flush=True)
    at_once(asked)
    workers(asked)


def at_once(asked: argparse.Namespace) -> None:
    found: dict[tuple[str, int], list[float]] = {(kind, n): [] for kind in ("product", "trial") for n in (1, 2)}
    for _ in range(asked.rounds):
        for (kind, count), rates in found.items():
            rates.append(sum(together(for_a_time, count, kind, asked.iteration, asked.seconds)))
    shares = {
        kind: [two / (2 * one) for one, two in zip(found[kind, 1], found[kind, 2], strict=True)]
        for kind in ("product", "trial")
    }
    for kind, unit in (("product", "GFLOP/s"), ("trial", "iterations a second")):
        row(f"two of {kind}, {unit}, of twice one", found[kind, 1], found[kind, 2], shares[kind])
    of_products = [trial / product for trial, product in zip(shares["trial"], shares["product"], strict=True)]
    row("two trials at once, of what products reach", [], [], of_products, GOALS["at once"])


def workers(asked: argparse.Namespace) -> None:
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(asked.rounds):
        for count, taken in found.items():
            with tempfile.TemporaryDirectory() as folder:
                flags = (count, f"file://{folder}/meeting", asked.iteration, asked.steps, asked.n_critic, asked.codes)
                taken.append(max(together(as_rank, count, *flags)))
    gains = [one / two for one, two in zip(found[1], found[2], strict=True)]
    name = (
        f"paper at {asked.codes[0]} x {asked.codes[1]}, n_critic {asked.n_critic}: seconds of an iteration by workers"
    )
    row(name, found[1], found[2], gains, GOALS["workers"])


def row(
    name: str, one: Sequence[float], two: Sequence[float], ratios: Sequence[float], goal: float | None = None
) -> None:
    cells = [f"{statistics.median(values):.2f}" if values else "" for values in (one, two)]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print("| " + " | ".join([name, *cells, ratio, "" if goal is None else str(goal)]) + " |", flush=True)


def together(work: Callable[..., float], count: int, *asked: Any) -> list[float]:
    """What `count` processes return that begin at the same moment."""
    barrier, results = SPAWN.Barrier(count), SPAWN.Queue()
    started = [SPAWN.Process(target=told, args=(work, number, barrier, results, asked)) for number in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a process ended with {process.exitcode}")
    return [results.get() for _ in started]


def told(work: Callable[..., float], number: int, barrier: Any, results: Any, asked: Sequence[Any]) -> None:
    import torch

    torch.set_num_threads(1)
    results.put(work(number, barrier, *asked))


def for_a_time(number: int, barrier: Any, kind: str, iteration: str, seconds: float) -> float:
    """GFLOP or iterations a second."""
    call, worth = product() if kind == "product" else trial(iteration)
    call()
    barrier.wait()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        call()
        count += 1
    return worth * count / (time.perf_counter() - began)


def product(side: int = 1024) -> tuple[Callable[[], object], float]:
    import torch

    a, b = torch.randn(2, side, side)
    return lambda: a @ b, 2e-9 * side**3


def trial(iteration: str) -> tuple[Callable[[], object], float]:

    import svgan.systems  # noqa: F401  (registers them)
    from svgan.torch_utils.distributed import SINGLE
    from svgan.training import recipes, registry
    from svgan.training.data import Material

    config = recipes.make("tiny", iteration=iteration)
    source = registry.make_source(config, Material.open(), "cpu")
    state = registry.build_state(config, source.space)
    return lambda: registry.iterate(state, source, SINGLE), 1.0


def as_rank(
    rank: int, barrier: Any, world: int, meeting: str, iteration: str, steps: int, n_critic: int, codes: Sequence[int]
) -> float:
    """Seconds of an iteration of recipe paper on random codes."""
    import torch
    from training_step import random_codes

    import svgan.systems  # noqa: F401  (registers them)
    from svgan.latents.clips import ClipSource
    from svgan.latents.spaces import make_space
    from svgan.torch_utils.distributed import current_process
    from svgan.training import recipes, registry

    if world > 1:
        torch.distributed.init_process_group("gloo", meeting, timedelta(seconds=600), rank=rank, world_size=world)
    config = recipes.make("paper", iteration=iteration, n_critic=n_critic)
    latents = random_codes(*codes)
    source = ClipSource(latents, config.window, make_space("wplus", latents))
    state, process = registry.build_state(config, source.space), current_process()
    registry.iterate(state, source, process)
    barrier.wait()
    began = time.perf_counter()
    for _ in range(steps):
        registry.iterate(state, source, process)
    taken = (time.perf_counter() - began) / steps
    if world > 1:
        torch.distributed.destroy_process_group()
    return taken


if __name__ == "__main__":
    main()
