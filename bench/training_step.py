"""What our iterations gain over the reference (tests/reference.py), in pairs of interleaved runs:

    python bench/training_step.py                     # tiny and pca on one core: 2 min
    python bench/training_step.py --device cuda       # the same on a GPU, with a third: fast as a CUDA graph
    python bench/training_step.py --recipes paper --codes 18 512 --rounds 1 --iterations 1 --n-critic 1   # 10 min, 6 GB

The reference is a straightforward step: GRUCells in a loop, penalties by autograd. Printed are medians over rounds, of
seconds of the processor (of the clock on a GPU), and of the rounds' ratios, with the least and largest. The fast one's
products are those of its matrices alone, one after another: no iteration that makes them is faster. Needs neither Ray
nor MLflow. Equal gradients are tests/fast's affair.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from reference import Reference

from svgan.images.domain import Domain
from svgan.latents.clips import ClipSource
from svgan.latents.manifest import Latents, VideoCodes
from svgan.latents.shards import open_latents, write_latents
from svgan.latents.spaces import make_space
from svgan.systems.stylevideogan import fast, step
from svgan.systems.stylevideogan.config import CodesConfig
from svgan.systems.stylevideogan.state import CodesState
from svgan.systems.stylevideogan.system import ITERATIONS
from svgan.torch_utils.distributed import SINGLE
from svgan.training import recipes

GENERATOR_STEPS = {"plain": step.generator_step, "fast": fast.step.generator_step}
Calls = dict[str, Callable[[], object]]
PRODUCTS = "fast's products"
PRODUCT_OPERATIONS = {getattr(torch.ops.aten, name) for name in ("mm", "addmm", "bmm", "baddbmm")}
GOALS: dict[str, dict[tuple[str, str], float]] = {
    "cpu": {
        ("tiny", "iteration"): 5,
        ("pca", "iteration"): 3,
        ("paper", "iteration"): 1.35,
        ("tiny", "generator step"): 3,
    },
    "cuda": {("tiny", "iteration"): 10, ("pca", "iteration"): 10},
}
GPU_GOALS = (
    ("tiny: iteration against the reference, eager, on the same GPU", "10"),
    ("pca: the same", "10"),
    ("pca: 100 000 iterations on an H100", "20 min"),
    ("paper: of the floor", "0.6"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["tiny", "pca"], choices=recipes.names())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=3, help="of a run, after one that is not counted (3)")
    parser.add_argument("--n-critic", type=int, help="critic steps an iteration (the recipe's)")
    parser.add_argument("--gap-weight", type=float, default=1.0)
    parser.add_argument("--codes", type=int, nargs=2, metavar=("L", "D"), help="random ones (the default domain's)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    latents = open_latents(Domain.load("default").latents_uri) if asked.codes is None else random_codes(*asked.codes)
    print(f"{asked.device}, one thread, load {os.getloadavg()[0]:.1f}, lambda_GAP {asked.gap_weight:g}\n")
    floors, peak = [], rate(asked.device)
    ways = [way for way in ITERATIONS if way != "graph" or torch.device(asked.device).type == "cuda"]
    timed = ["reference", *ways, PRODUCTS]
    heads = ["recipe", "part", *(f"{way} ms" for way in timed), *(f"{way} gains" for way in timed[1:]), "goal"]
    print(f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", sep="\n")
    for name in asked.recipes:
        for part, calls in parts(name, ways, latents, asked).items():
            taken = times(calls, asked)
            print(row(name, part, timed, taken, asked.device), flush=True)
            if part == "iteration":
                floors.append(floor(name, calls["fast"], statistics.median(taken[ways[-1]]), peak))
    print(f"\nThe floor: float32 products alone, at the {peak:.0f} GFLOP/s of a large one here\n")
    print(f"| recipe | GFLOP of an iteration | floor ms | {ways[-1]}, of the floor | 100 000 iterations, min |")
    print("|---|---|---|---|---|", *floors, sep="\n")
    if not torch.cuda.is_available():
        print("\n| on a GPU | | goal |\n|---|---|---|")
        print(*(f"| {name} | not run: there is none here | {goal} |" for name, goal in GPU_GOALS), sep="\n")


def random_codes(layers: int, width: int) -> Latents:
    codes = np.random.default_rng(0).standard_normal((200, layers, width), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        write_latents(folder, [VideoCodes("a", np.arange(200), codes)], domain="random", fps=25)
        return open_latents(folder)


def parts(name: str, ways: Sequence[str], latents: Latents, asked: argparse.Namespace) -> dict[str, Calls]:
    """An iteration and its generator step, each way, of runs that begin with the same weights."""
    critic_steps = {} if asked.n_critic is None else {"n_critic": asked.n_critic}
    config = recipes.make(name, gap_weight=asked.gap_weight, **critic_steps)
    assert isinstance(config, CodesConfig)
    clips = ClipSource(latents, config.window, make_space(config.space, latents, config.components), asked.device)
    states = {way: CodesState.build(config, clips.space, device=asked.device) for way in ways}
    reference = Reference(states["plain"])
    iterations: Calls = {"reference": partial(reference.iterate, clips)}
    generator_steps: Calls = {"reference": reference.generator_step}
    for way, state in states.items():
        iterations[way] = partial(ITERATIONS[way], state, clips, SINGLE)
        if way in GENERATOR_STEPS:
            generator_steps[way] = partial(GENERATOR_STEPS[way], state, step.Draws(state, clips, SINGLE), SINGLE)
    found = {"iteration": iterations, "generator step": generator_steps}
    for calls in found.values():
        with Products() as recorded:
            calls["fast"]()
        calls[PRODUCTS] = recorded.again
    return found


class Products(TorchDispatchMode):
    """The products of matrices that a program makes, to be made again with nothing between them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], object]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in PRODUCT_OPERATIONS:
            self.calls.append(partial(func, *args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    @torch.no_grad()
    def again(self) -> None:
        for call in self.calls:
            call()


def times(calls: Calls, asked: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each call, by rounds."""
    taken: dict[str, list[float]] = {way: [] for way in calls}
    for _ in range(fast.cuda_graph.WARM_UP if "graph" in calls else 0):
        calls["graph"]()
    for _ in range(asked.rounds):
        for way, call in calls.items():
            taken[way].append(seconds(call, asked.iterations, asked.device))
    return taken


def row(name: str, part: str, ways: Sequence[str], taken: dict[str, list[float]], device: str) -> str:
    """The table's line; not every way has every part."""
    medians = [f"{1000 * statistics.median(taken[way]):.1f}" if way in taken else "-" for way in ways]
    gains = [gain(taken["reference"], taken[way]) if way in taken else "-" for way in ways[1:]]
    goal = GOALS.get(torch.device(device).type, {}).get((name, part), "")
    return "| " + " | ".join([name, part, *medians, *gains, str(goal)]) + " |"


def floor(name: str, call: Callable[[], object], taken: float, peak: float) -> str:
    """What the products that an iteration makes would take at the peak's rate; smaller ones reach less."""
    with FlopCounterMode(display=False) as counted:
        call()
    work = counted.get_total_flops() / 1e9
    return f"| {name} | {work:.2f} | {1000 * work / peak:.1f} | {work / peak / taken:.2f} | {1e5 * taken / 60:.0f} |"


def rate(device: str) -> float:
    """GFLOP/s of products of 2048 x 2048 (on a GPU 8192) float32 matrices."""
    side = 2048 if torch.device(device).type == "cpu" else 8192
    a, b = torch.randn(2, side, side, device=device)
    return 2e-9 * side**3 / min(seconds(partial(torch.mm, a, b), 3, device) for _ in range(3))


def gain(before: Sequence[float], now: Sequence[float]) -> str:
    """The median of the rounds' ratios, and the least and largest."""
    ratios = [b / n for b, n in zip(before, now, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def seconds(call: Callable[[], object], times: int, device: str) -> float:
    """Of one call."""
    on_gpu = torch.device(device).type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    call()
    if on_gpu:
        torch.cuda.synchronize()
    begun = clock()
    for _ in range(times):
        call()
    if on_gpu:
        torch.cuda.synchronize()
    return (clock() - begun) / times


if __name__ == "__main__":
    main()
