"""What the fast iteration gains over the plain one, in pairs of interleaved runs:

    python bench/training_step.py                     # tiny, pca and a GAP step on one core
    python bench/training_step.py --recipes paper --rounds 1 --iterations 1 --n-critic 1     # minutes
    python bench/training_step.py --device cuda       # the same on a GPU

Printed are medians over rounds, of seconds of the processor (of the clock on a GPU), and the ratio's least and largest
of any round. Needs neither Ray nor MLflow. Equal gradients are tests/fast's affair.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from svgan import fast, recipes, step
from svgan.distributed import SINGLE
from svgan.images.domain import Domain
from svgan.iterations import ITERATIONS
from svgan.latents.clips import ClipSource
from svgan.latents.shards import open_latents
from svgan.latents.stats import make_space
from svgan.state import State

GENERATOR_STEPS = {"plain": step.generator_step, "fast": fast.step.generator_step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["tiny", "pca"], choices=recipes.RECIPES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=3, help="of a run, after one that is not counted (3)")
    parser.add_argument("--n-critic", type=int, help="critic steps an iteration (the recipe's)")
    parser.add_argument("--gap-weight", type=float, default=1.0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{asked.device}, one thread, load {os.getloadavg()[0]:.1f}\n")
    print("| recipe | part | plain ms | fast ms | ratio (least to largest) |\n|---|---|---|---|---|")
    for name in asked.recipes:
        for part, calls in parts(name, asked).items():
            print(row(name, part, calls, asked), flush=True)
    if not torch.cuda.is_available():
        print("\n| on a GPU | not run: there is none here |")


def parts(name: str, asked: argparse.Namespace) -> dict[str, dict[str, Callable[[], object]]]:
    """An iteration and its generator step, plain and fast, of a run of the recipe on the default domain's codes."""
    critic_steps = {} if asked.n_critic is None else {"n_critic": asked.n_critic}
    config = recipes.make(name, gap_weight=asked.gap_weight, **critic_steps)
    latents = open_latents(Domain.load("default").latents_uri)
    clips = ClipSource(latents, config.window, make_space(config.space, latents, config.components), asked.device)
    state = State.build(config, clips.space, device=asked.device)
    return {
        "iteration": {way: partial(by, state, clips, SINGLE) for way, by in ITERATIONS.items()},
        "generator step": {way: partial(by, state, SINGLE) for way, by in GENERATOR_STEPS.items()},
    }


def row(name: str, part: str, calls: dict[str, Callable[[], object]], asked: argparse.Namespace) -> str:
    times: dict[str, list[float]] = {way: [] for way in calls}
    for _ in range(asked.rounds):
        for way, call in calls.items():
            times[way].append(seconds(call, asked.iterations, asked.device))
    plain, quick = (1000 * statistics.median(times[way]) for way in ("plain", "fast"))
    ratios = [p / f for p, f in zip(times["plain"], times["fast"], strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"| {name} | {part} | {plain:.1f} | {quick:.1f} | {spread} |"


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
