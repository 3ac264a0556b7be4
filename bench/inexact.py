"""What the inexact options cost in quality and gain in time: 3 seeds of each at equal steps, on the default domain.

    python bench/inexact.py --folder inexact           18 runs of 500 steps of recipe tiny: 12 min of a core; resumable
    python bench/inexact.py --folder inexact --one     one more run, then stop; the same command goes on
    python bench/inexact.py --recipe pca --seeds 0     the times alone

Printed are the latent Fréchet distance at the last step (1024 windows on either side, mean over seeds with Student's
95 % interval), the same of its difference to the exact run of the same seed, and CPU milliseconds of an iteration, in
pairs of interleaved rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import models
import numpy as np
import torch
from training_step import Calls, gain, seconds

import svgan.systems  # noqa: F401  (registers them)
from svgan.io.atomic import write_whole
from svgan.latents.clips import ClipSource
from svgan.latents.shards import open_latents
from svgan.metrics.latent import LatentDistance
from svgan.torch_utils.distributed import SINGLE
from svgan.training import recipes, registry
from svgan.training.data import Material
from svgan.training.state import State

EXACT: dict[str, Any] = {"iteration": "fast"}
WAYS: dict[str, dict[str, Any]] = {
    "exact": EXACT,
    "bfloat16": EXACT | {"precision": "bfloat16"},
    "gap-every-4": EXACT | {"gap_every": 4},
    "n-critic-2": EXACT | {"n_critic": 2},
    "n-critic-1": EXACT | {"n_critic": 1},
    "bfloat16-gap-every-4-n-critic-2": EXACT | {"precision": "bfloat16", "gap_every": 4, "n_critic": 2},
}
WINDOWS = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("inexact"))
    parser.add_argument("--recipe", default="tiny", choices=recipes.names())
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5, help="of timing")
    parser.add_argument("--one", action="store_true", help="stop after one run")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[float]] = {way: [] for way in asked.ways}
    for seed in range(asked.seeds):
        for way in asked.ways:
            out = asked.folder / f"{asked.recipe}-{way}-seed-{seed}"
            new = not out.with_name(f"{out.name}-at-{asked.steps}").exists()
            overrides = WAYS[way] | {"seed": seed}
            (checkpoint,) = models.trained(out, asked.recipe, overrides, [asked.steps], torch.device("cpu"))
            found[way].append(distance(checkpoint))
            if asked.one and new:
                print(f"{out}: {found[way][-1]:.3f}; the same command goes on")
                return
    print(f"{asked.recipe}, {asked.steps} steps, {asked.seeds} seeds; times at load {os.getloadavg()[0]:.1f}\n")
    print("| way | latent FD | to exact | ms | gain |\n|---|---|---|---|---|")
    times = timed(asked)
    exact = found[asked.ways[0]]
    for way, values in found.items():
        apart = [value - own for value, own in zip(values, exact, strict=True)]
        told = [way, mean(values), mean(apart) if way != asked.ways[0] else ""]
        told += [f"{1000 * statistics.median(times[way]):.1f}", gain(times[asked.ways[0]], times[way])]
        print("| " + " | ".join(told) + " |")


def distance(checkpoint: Path) -> float:
    """Of the model to all footage, kept beside it."""
    kept = checkpoint / f"latent-{WINDOWS}.json"
    if not kept.exists():
        sampler, domain = models.sampler_of(checkpoint, torch.device("cpu"))
        window = recipes.make("tiny").window
        clips = ClipSource(open_latents(domain.latents_uri, domain=domain.digest), window, sampler.space)
        found = LatentDistance(clips.windows(WINDOWS, 0))(sampler.coordinates(WINDOWS, window, 0))
        with write_whole(kept) as aside:
            aside.write_text(json.dumps(found))
    return json.loads(kept.read_text())


def timed(asked: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of an iteration, by way and round; as many iterations as see every way's GAP alike."""
    calls: Calls = {}
    material = Material.open()
    for way in asked.ways:
        config = recipes.make(asked.recipe, **WAYS[way])
        source = registry.make_source(config, material, "cpu")
        calls[way] = partial(four, registry.build_state(config, source.space), source)
    rounds = [{way: seconds(call, 1, "cpu") / 4 for way, call in calls.items()} for _ in range(asked.rounds)]
    return {way: [one[way] for one in rounds] for way in calls}


def four(state: State, source: Any) -> None:
    for _ in range(4):
        registry.iterate(state, source, SINGLE)
        state.step += 1


def mean(values: Sequence[float]) -> str:
    """With half of Student's 95 % interval; nothing where there is none."""
    from scipy import stats

    if not values:
        return ""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0
    return f"{np.mean(values):.3f} +- {half:.3f}"


if __name__ == "__main__":
    main()
