"""How fast shards on this machine's disk become tensors, against numpy's memmap of the same bytes.

    python bench/shards_read.py                    400 MB of 18 x 512 codes, read from the page cache: half a minute

Memmap: the same float16 codes in one .npy, made a float32 tensor, as shards are. Reading also checks every file's
digest and looks for NaN; without the digests is the second row. CPU seconds are of all threads: shards are read side by
side.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from svgan.latents.manifest import VideoCodes
from svgan.latents.shards import open_latents, write_latents

LAYERS, WIDTH = 18, 512
GOAL = 0.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="svgan-bench-") as folder:
        plain, shards = Path(folder) / "codes.npy", Path(folder) / "shards"
        total = made(plain, shards, asked.megabytes)
        ways: dict[str, Callable[[], object]] = {
            "memmap to a tensor": lambda: torch.from_numpy(np.load(plain, mmap_mode="c")).float(),
            "shards to tensors, digests not checked": lambda: open_latents(shards, verify=False).codes,
            "shards to tensors": lambda: open_latents(shards).codes,
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for turn in range(asked.rounds + 1):  # the first fills the page cache
            for name, way in ways.items():
                began, used = time.perf_counter(), time.process_time()
                way()
                if turn:
                    times[name].append((time.perf_counter() - began, time.process_time() - used))
    report(times, total)


def made(plain: Path, shards: Path, megabytes: int) -> int:
    """The same codes twice; their bytes."""
    rows = megabytes * 10**6 // (2 * LAYERS * WIDTH)
    codes = np.random.default_rng(0).standard_normal((rows, LAYERS, WIDTH), np.float32).astype(np.float16)
    np.save(plain, codes)
    write_latents(shards, [VideoCodes("a", np.arange(rows), codes)], domain="d", fps=25, components=1)
    return codes.nbytes


def report(times: dict[str, list[tuple[float, float]]], total: int) -> None:
    """Medians; the share of memmap's speed is the median of each round's own."""
    print(f"{total / 1e6:.0f} MB, load {os.getloadavg()[0]:.1f}\n")
    print("| | GB/s | of memmap (least to largest) | CPU s | goal |\n|---|---|---|---|---|")
    first = next(iter(times.values()))
    for name, taken in times.items():
        seconds, used = (statistics.median(one) for one in zip(*taken, strict=True))
        shares = [base / own for (base, _), (own, _) in zip(first, taken, strict=True)]
        told = f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
        print(f"| {name} | {total / seconds / 1e9:.2f} | {told} | {used:.2f} | {GOAL if taken is not first else ''} |")


if __name__ == "__main__":
    main()
