"""Run simulated studies from the command line.

python tests/simulation/run.py --seed 123            one schedule, with what it did
python tests/simulation/run.py --seeds 0 100000      many, on all cores; failing seeds are printed, exit code 1
"""

import argparse
import concurrent.futures
import os
import sys
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import simulated_studies as studies  # noqa: E402  (beside this file)

BLOCK = 50


def failing(first: int, last: int) -> tuple[list[int], int]:
    """The seeds that fail, and the number of drivers' lives of the others."""
    bad, lives = [], 0
    for seed in range(first, last):
        try:
            lives += studies.check(seed).lives
        except Exception:
            bad.append(seed)
    return bad, lives


def one(seed: int) -> int:
    print(studies.shape_of(seed))
    try:
        study = studies.check(seed)
    except Exception:
        traceback.print_exc()
        return 1
    print(f"{study.lives} drivers, {study.world.now:.0f} simulated seconds, effects:")
    for name, count in sorted(study.world.effects.items()):
        print(f"  {name:28} {count}")
    return 0


def many(first: int, last: int) -> int:
    began, bad, lives = time.monotonic(), [], 0
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        starts = range(first, last, BLOCK)
        for at, (found, lived) in enumerate(pool.map(failing, starts, [min(last, s + BLOCK) for s in starts])):
            bad, lives = bad + found, lives + lived
            if found or at % 20 == 0:
                done = min(last, first + (at + 1) * BLOCK) - first
                print(f"{done} of {last - first} schedules, failing: {bad or 'none'}", flush=True)
    print(f"{last - first} schedules, {lives} drivers, {len(bad)} failed, {time.monotonic() - began:.0f} s")
    return int(bool(bad))


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = p.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, metavar="N", help="this schedule alone")
    which.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "END"), help="schedules FIRST to END - 1")
    asked = p.parse_args()
    return one(asked.seed) if asked.seeds is None else many(*asked.seeds)


if __name__ == "__main__":
    sys.exit(main())
