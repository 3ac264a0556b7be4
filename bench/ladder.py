"""Does the cheap rung rank models as FVD does? Spearman's correlation over at least 20 trained models.

    python bench/ladder.py --folder ladder                  8 runs of recipe tiny, each kept at 3 steps: 24 models
    python bench/ladder.py --folder ladder --models 3       three more models of it, then stop; the same command goes on

Models differ in seed, GAP weight and training length. Cheap metrics, no rendering: the latent Fréchet distance as the
rungs use it, the same over each lag alone, the spectra and speeds of motion. Each is correlated with FVD short and long
on --clips clips, with a bootstrap interval over models; ladder.png plots the rungs' own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import models
import numpy as np
import torch

from svgan.io.atomic import write_whole
from svgan.latents.clips import ClipSource
from svgan.latents.shards import open_latents
from svgan.metrics.latent import LatentDistance
from svgan.metrics.motion_stats import spectrum_distance, speed_distance
from svgan.runs.validation import JUDGED_CLIPS
from svgan.systems.stylevideogan.config import ITERATIONS

STEPS, WEIGHTS, SEEDS = (100, 300, 1000), (0.0, 1.0), range(4)
AGAINST = ("fvd_short", "fvd_long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("ladder"))
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--iteration", default="plain", choices=ITERATIONS, help="fast takes less time [%(default)s]")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--models", type=int, default=10**9, help="measure so many more, then stop")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    device, table, left = torch.device(asked.device), [], asked.models
    asked.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(asked.seeds):
        for weight in WEIGHTS:
            out = asked.folder / f"gap-{weight:g}-seed-{seed}"
            overrides = {"gap_weight": weight, "seed": seed, "iteration": asked.iteration}
            for steps in sorted(asked.steps):
                legs = [step for step in asked.steps if step <= steps]
                checkpoint = models.trained(out, asked.recipe, overrides, legs, device)[-1]
                row = checkpoint / f"ladder-{asked.clips}.json"
                if not row.exists():
                    if not left:
                        print(f"stopped before {checkpoint}; the same command goes on")
                        return
                    left -= 1
                    made = {"model": checkpoint.name, **cheap(checkpoint, device)}
                    dear = models.figures(checkpoint, "svg-short,svg-long", ("fvd",), asked.clips, device)
                    made |= {name: dear[name]["value"] for name in AGAINST}
                    with write_whole(row) as aside:
                        aside.write_text(json.dumps(made, indent=1) + "\n")
                table.append(json.loads(row.read_text()))
    show(table, asked.folder)


def cheap(checkpoint: Path, device: torch.device) -> dict[str, float]:
    """Metrics without rendering, of as many windows as a rung takes."""
    sampler, domain = models.sampler_of(checkpoint, device)
    latents = open_latents(domain.latents_uri, domain=domain.digest)
    window = int(sampler.meta["config"]["window"])
    real = ClipSource(latents, window, sampler.space, device).windows(JUDGED_CLIPS, 0)
    fake = sampler.coordinates(JUDGED_CLIPS, window, 0)
    late = sampler.coordinates(64, 10 * window, 0)[:, -window:]
    judge, of_late = LatentDistance(real), LatentDistance(real)
    found = {"latent_fd": judge(fake), "latent_fd of the last window of ten": of_late(late)}
    found |= {f"latent_fd of lag {lag} alone": part for lag, part in judge.parts(fake).items()}
    ours, theirs = fake.cpu().numpy(), real.cpu().numpy()
    found["speed"] = speed_distance(ours, theirs)
    found["spectrum"] = spectrum_distance(ours, theirs, latents.manifest.fps)
    return found


def show(table: list[dict], folder: Path) -> None:  # type: ignore[type-arg]
    from scipy.stats import spearmanr

    print(f"{len(table)} models; Spearman's correlation (95 % over models)\n")
    print(f"| cheap metric | {' | '.join(AGAINST)} |\n|---|{'---|' * len(AGAINST)}")
    draw = np.random.default_rng(0)
    for name in (key for key in table[0] if key not in ("model", *AGAINST)):
        cells = []
        for dear in AGAINST:
            pairs = np.array([(row[name], row[dear]) for row in table])
            again = [spearmanr(*pairs[draw.integers(0, len(pairs), len(pairs))].T).statistic for _ in range(500)]
            low, high = np.nanquantile(again, [0.025, 0.975])
            cells.append(f"{spearmanr(*pairs.T).statistic:.2f} ({low:.2f} to {high:.2f})")
        print(f"| {name} | {' | '.join(cells)} |")
    plot(table, folder / "ladder.png")


def plot(table: list[dict], path: Path) -> None:  # type: ignore[type-arg]
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(AGAINST), figsize=(9, 4))
    for axis, dear in zip(axes, AGAINST, strict=True):
        axis.scatter([row["latent_fd"] for row in table], [row[dear] for row in table])
        axis.set(xlabel="latent_fd", ylabel=dear)
    figure.tight_layout()
    figure.savefig(path)
    print(f"\n{path}")


if __name__ == "__main__":
    main()
