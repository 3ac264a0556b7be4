"""Measure the effect of GAP: 5 seeds with and 5 without, at equal steps, on the default domain.

    python bench/gap_effect.py --folder gap_effect          10 runs of recipe tiny, each measured; resumable
    python bench/gap_effect.py --folder gap_effect --one    one step (train or measure one run), then stop

Prints FVD short and long, the loop metrics and mean phi of both sides, with Student's 95 % intervals over seeds and
Welch's test of their difference. Then it prints the pass mark of docs/papers.md#stylevideogan-results: (a) FVD long is
lower with GAP in the mean, and spreads less; (b) FVD short is about the same; (c) FVD against W+ is far below that
against the original.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import models
import numpy as np
import torch

from svgan.io.atomic import write_whole
from svgan.systems.stylevideogan.config import ITERATIONS

MEASURES = ("fvd", "loops")
PROTOCOLS = "svg-short,svg-long"
ABOUT_THE_SAME = 0.5  # FVD short may differ by so much of itself; in the paper it differs by 0.29


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("gap_effect"))
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--iteration", default="plain", choices=ITERATIONS, help="fast takes less time [%(default)s]")
    parser.add_argument("--gap-weight", type=float, default=1.0, help="of the side with GAP [%(default)s]")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--one", action="store_true", help="stop after one run's training or figures")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    device, found = torch.device(asked.device), {}
    asked.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(asked.seeds):
        for weight in (0.0, asked.gap_weight):
            out = asked.folder / f"gap-{weight:g}-seed-{seed}"
            before = set(asked.folder.rglob("*.json"))
            overrides = {"gap_weight": weight, "seed": seed, "iteration": asked.iteration}
            (checkpoint,) = models.trained(out, asked.recipe, overrides, [asked.steps], device)
            if asked.one and set(asked.folder.rglob("*.json")) != before:
                print(f"{out}: trained; the same command goes on")
                return
            found[weight, seed] = models.figures(checkpoint, PROTOCOLS, MEASURES, asked.clips, device)
            if asked.one and set(asked.folder.rglob("*.json")) != before:
                print(f"{out}: measured; the same command goes on")
                return
    told = summary(found, asked.gap_weight, asked.seeds)
    with write_whole(asked.folder / "summary.json") as aside:
        aside.write_text(json.dumps(told, indent=1) + "\n")
    show(told, asked)


def summary(found: dict, weight: float, seeds: int) -> dict[str, dict[str, float | None]]:  # type: ignore[type-arg]
    """Per figure: mean, half the interval and standard deviation of either side, p of Welch's test, the footage's."""
    from scipy import stats

    told = {}
    for name, first in found[0.0, 0].items():
        one: dict[str, float | None] = {"footage": first["footage"]}
        sides = []
        for side, at in (("without", 0.0), ("with", weight)):
            values = np.array([found[at, seed][name]["value"] for seed in range(seeds)], np.float64)
            sides.append(values)
            spread = float(values.std(ddof=1)) if seeds > 1 else 0.0
            half = float(stats.t.ppf(0.975, seeds - 1) * spread / np.sqrt(seeds)) if seeds > 1 else float("nan")
            one |= {f"{side}_mean": float(values.mean()), f"{side}_half": half, f"{side}_std": spread}
        differ = seeds > 1 and any(values.std() > 0 for values in sides)
        one["p"] = float(stats.ttest_ind(*sides, equal_var=False).pvalue) if differ else None
        told[name] = one
    return told


def show(told: dict[str, dict[str, float | None]], asked: argparse.Namespace) -> None:
    of = f"{asked.recipe} ({asked.iteration} iteration)"
    print(f"{asked.seeds} seeds, {asked.steps} steps of {of}, {asked.clips} clips; mean +- 95 % (std)\n")
    print(f"| figure | lambda_GAP 0 | lambda_GAP {asked.gap_weight:g} | p | the footage's own |")
    print("|---|---|---|---|---|")
    for name, one in told.items():
        sides = [
            f"{one[f'{s}_mean']:.3g} +- {one[f'{s}_half']:.2g} ({one[f'{s}_std']:.2g})" for s in ("without", "with")
        ]
        p, own = ("-" if one[key] is None else f"{one[key]:.2g}" for key in ("p", "footage"))
        print(f"| {name} | {sides[0]} | {sides[1]} | {p} | {own} |")
    short, long = told["fvd_short"], told["fvd_long"]
    marks = {
        "(a) FVD long lower with GAP": long["with_mean"] < long["without_mean"],  # type: ignore[operator]
        "(a) and spread less": long["with_std"] < long["without_std"],  # type: ignore[operator]
        "(b) FVD short about the same": abs(short["with_mean"] - short["without_mean"])  # type: ignore[operator]
        < ABOUT_THE_SAME * short["without_mean"],  # type: ignore[operator]
    }
    if "fvd_short_original" in told:
        marks["(c) W+ far below original"] = 2 * short["with_mean"] < told["fvd_short_original"]["with_mean"]  # type: ignore[operator]
    print()
    for mark, holds in marks.items():
        print(f"{'holds' if holds else 'DOES NOT HOLD'}: {mark}")


if __name__ == "__main__":
    main()
