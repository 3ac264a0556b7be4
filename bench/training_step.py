"""What training's iteration gains over the plain one, in pairs of interleaved runs:

    python bench/training_step.py                     # tiny and pca on one core; --recipes paper, --device cuda

Both are `svgan.step.iterate`: by `gradients.PLAIN` (a loop over GRU cells, automatic differentiation alone) and by
`gradients.FAST`, whose gradients are equal (tests/gradients). Printed are medians over rounds, of seconds of the
processor (of the clock on a GPU), and the ratio's least and largest of any round. Needs neither Ray nor MLflow.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from svgan import recipes, step
from svgan.distributed import SINGLE
from svgan.gradients import FAST, PLAIN, Gradients
from svgan.images.domain import Domain
from svgan.latents.clips import ClipSource
from svgan.latents.shards import open_latents
from svgan.latents.stats import make_space
from svgan.state import State

WAYS: dict[str, Gradients] = {"plain": PLAIN, "fast": FAST}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["tiny", "pca"], choices=recipes.RECIPES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=5, help="of a run, after one that is not counted (5)")
    parser.add_argument("--gap-weight", type=float, default=1.0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| recipe | part | plain ms | fast ms | ratio (least to largest) |\n|---|---|---|---|---|")
    for name in asked.recipes:
        for part, call in parts(name, asked.gap_weight, asked.device).items():
            print(row(name, part, call, asked), flush=True)


def parts(name: str, gap_weight: float, device: str) -> dict[str, Callable[[Gradients], object]]:
    """An iteration and its two halves, of one run of the recipe on the default domain's codes."""
    config = recipes.make(name, gap_weight=gap_weight)
    latents = open_latents(Domain.load("default").latents_uri)
    clips = ClipSource(latents, config.window, make_space(config.space, latents, config.components), device)
    state = State.build(config, clips.space, device=device)

    def critic(by: Gradients) -> None:
        noises = [step.draw_noise(state, SINGLE, "critic", turn) for turn in range(config.n_critic)]
        for turn, latents in enumerate(by.latents(state, noises)):
            step.critic_step(state, clips, SINGLE, turn, latents, by)

    return {
        "iteration": lambda by: step.iterate(state, clips, SINGLE, by),
        f"{config.n_critic} critic steps": critic,
        "generator step": lambda by: step.generator_step(state, SINGLE, by),
    }


def row(name: str, part: str, call: Callable[[Gradients], object], asked: argparse.Namespace) -> str:
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(asked.rounds):
        for way, by in WAYS.items():
            times[way].append(seconds(partial(call, by), asked.iterations, asked.device))
    plain, fast = (1000 * statistics.median(times[way]) for way in WAYS)
    ratios = [p / f for p, f in zip(*times.values(), strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return f"| {name} | {part} | {plain:.1f} | {fast:.1f} | {plain / fast:.2f} ({spread}) |"


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
