"""What an iteration of each system costs: seconds of one core, and the memory of the process.

    python bench/recipes.py                                 every recipe that two cores can run, as a Markdown table
    python bench/recipes.py --recipes stylegan-v --seconds 60

Each recipe in a process of its own, on one thread, on the default domain's footage, after two iterations that are not
counted. Seconds are the process's own, means over whole rounds of what is not in every iteration (R1 every 16th);
memory is what it had before the first iteration, with networks and frames, and its peak. 5 min on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

RECIPES = ("tiny", "pca", "stylegan-v-codes", "mocogan-hd", "mocogan-hd-cross", "stylegan-v")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, metavar="NAME")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="X", help="of each (30)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(asked.one, asked.seconds)))
        return
    print("| recipe | clips x frames | s of a core an iteration | GB before, at its peak |")
    print("|---|---|---|---|")
    for recipe in asked.recipes:
        command = [sys.executable, __file__, "--one", recipe, "--seconds", str(asked.seconds)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        found = json.loads(done.stdout)
        print(
            f"| {recipe} | {found['batch']} x {found['frames']} | {found['seconds']:.2g} | {found['before']:.2f}, "
            f"{found['peak']:.2f} |",
            flush=True,
        )


def measured(recipe: str, least: float) -> dict[str, float]:
    """Of about `least` seconds of iterations, in this process."""
    import torch

    import svgan.systems  # noqa: F401  (registers them)
    from svgan.torch_utils.distributed import SINGLE
    from svgan.training import recipes, registry
    from svgan.training.data import Material

    torch.set_num_threads(1)
    config = recipes.make(recipe)
    source = registry.make_source(config, Material.open(), "cpu")
    state = registry.build_state(config, source.space)
    before, whole = peak(), getattr(config, "r1_every", 1)

    def step() -> None:
        registry.iterate(state, source, SINGLE)
        state.step += 1

    for _ in range(2):
        step()
    state.step, count, began = 0, 0, time.process_time()
    while count % whole or time.process_time() - began < least:
        step()
        count += 1
    seconds = (time.process_time() - began) / count
    frames = getattr(config, "frames", config.window)
    return {"batch": config.batch, "frames": frames, "seconds": seconds, "before": before, "peak": peak()}


def peak() -> float:
    """GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
