"""Is FVD's order right on real footage, and where is it blind?

    python bench/fvd_order.py                    the default domain, 96 real clips against 64 of each kind
    python bench/fvd_order.py --out order.json   goes on where it was cut; features are kept beside it

Clips of 25 frames that do not overlap, taken in turn from the footage re-rendered: every other one is the reference,
those between are the held-out real clips and, spoilt, everything else. Prints FVD, KVD and the latent Fréchet distance
of each kind with 95 % intervals, and whether the held-out clips lie below it, intervals apart. 800 clips through I3D:
five minutes of a core with AMX that has nothing else to do; --minutes takes it piece by piece.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from svgan.images.domain import Domain
from svgan.io.atomic import write_whole
from svgan.latents.manifest import Latents
from svgan.latents.shards import open_latents
from svgan.latents.spaces import make_space
from svgan.metrics import fvd
from svgan.metrics.frechet import FrechetTo
from svgan.metrics.intervals import bootstrap, endless
from svgan.metrics.kernel import KernelTo
from svgan.metrics.latent import LatentDistance
from svgan.metrics.protocol import PROTOCOLS, usual_precision

FRAMES, PIECE = 25, 8
Frames = np.ndarray  # uint8 [T, R, R, 3]


def blurred(clip: Frames, sigma: float) -> Frames:
    """A Gaussian blur of so many pixels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(clip.astype(np.float32), (0, sigma, sigma, 0)).round().astype(np.uint8)


def noisy(clip: Frames, spread: float) -> Frames:
    noise = np.random.default_rng(0).normal(scale=spread, size=clip.shape)
    return (clip + noise).round().clip(0, 255).astype(np.uint8)


def shuffled(clip: Frames) -> Frames:
    return clip[np.random.default_rng(0).permutation(len(clip))]


KINDS: dict[str, Callable[[Frames], Frames]] = {
    "real, held out": lambda clip: clip,
    "shuffled in time": shuffled,
    "frozen": lambda clip: np.repeat(clip[:1], len(clip), axis=0),
    "blurred, sigma 2 px of 64": lambda clip: blurred(clip, 2),
    "blurred, sigma 1 px of 64": lambda clip: blurred(clip, 1),
    "backwards": lambda clip: clip[::-1].copy(),
    "half speed": lambda clip: clip[np.arange(len(clip)) // 2],
    "looped every 8": lambda clip: clip[np.arange(len(clip)) % 8],
    "there and back": lambda clip: np.concatenate([clip[: FRAMES // 2 + 1], clip[: FRAMES // 2][::-1]]),
    "two frames swapped": lambda clip: clip[[*range(11), 12, 11, *range(13, FRAMES)]],
    "noise of 8 of 255": lambda clip: noisy(clip, 8),
}
OF_PICTURES = ("blurred", "noise")  # codes know nothing of these


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", default="default")
    parser.add_argument("--out", type=Path, default=Path("fvd_order.json"))
    parser.add_argument("--clips", type=int, default=64, help="of each kind")
    parser.add_argument("--reference", type=int, default=96, help="real clips that they are compared with")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long; the next run goes on")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    domain = Domain.load(asked.domain)
    latents = open_latents(domain.latents_uri, domain=domain.digest)
    starts = latents.windows(FRAMES)
    runs = np.split(starts, np.flatnonzero(np.diff(starts) != 1) + 1)
    apart = np.concatenate([run[::FRAMES] for run in runs])
    rows = {
        "reference": apart[::2][: asked.reference, None] + np.arange(FRAMES),
        **{kind: apart[1::2][: asked.clips, None] + np.arange(FRAMES) for kind in KINDS},
    }
    keeper = Features(asked.out.with_suffix(".npz"), domain, latents.codes, time.monotonic() + 60 * asked.minutes)
    for kind in rows:
        if not keeper.complete(kind, rows[kind], KINDS.get(kind, KINDS["real, held out"])):
            print(f"stopped in {kind!r}; the same command goes on")
            break
    if "real, held out" not in keeper.finished:
        return
    figures = judged(keeper.finished, latent_distances(latents, rows))
    with write_whole(asked.out) as aside:
        aside.write_text(json.dumps(figures, indent=1) + "\n")
    show(figures)


class Features:
    """I3D's logits by kind, kept in a file after every few clips."""

    def __init__(self, path: Path, domain: Domain, codes: np.ndarray, until: float):
        self.path, self.domain, self.codes, self.until = path, domain, codes, until
        self.see = fvd.detector(PROTOCOLS["svg-short"].with_precision(usual_precision("cpu")), "cpu")
        self.seen: dict[str, np.ndarray] = dict(np.load(path)) if path.exists() else {}
        self.finished: dict[str, np.ndarray] = {}

    def complete(self, kind: str, rows: np.ndarray, spoil: Callable[[Frames], Frames]) -> bool:
        """Whether all of a kind is there, after making what can be made in time."""
        known = self.seen.get(kind, np.zeros((0, 400), np.float32))
        while len(known) < len(rows):
            if time.monotonic() > self.until:
                return False
            part = rows[len(known) : len(known) + PIECE]
            clips = np.stack([spoil(self.domain.render(self.codes[row])) for row in part])
            known = np.concatenate([known, *(self.see(clips[at : at + 2]) for at in range(0, len(clips), 2))])
            self.seen[kind] = known
            with write_whole(self.path) as aside, open(aside, "wb") as file:
                np.savez(file, **self.seen)  # type: ignore[arg-type]
        self.finished[kind] = known[: len(rows)]
        return True


def latent_distances(latents: Latents, rows: dict[str, np.ndarray]) -> dict[str, float]:
    """The latent Fréchet distance of each kind whose spoiling is of time alone."""
    space = make_space("pca", latents, min(32, len(latents.basis)))
    codes = {kind: space.encode(torch.from_numpy(latents.codes[at])).numpy() for kind, at in rows.items()}
    judge = LatentDistance(torch.from_numpy(codes["reference"]))
    of_time = {kind: spoil for kind, spoil in KINDS.items() if not kind.startswith(OF_PICTURES)}
    return {
        kind: judge(torch.from_numpy(np.stack([spoil(clip) for clip in codes[kind]])))
        for kind, spoil in of_time.items()
    }


def judged(seen: dict[str, np.ndarray], latent: dict[str, float]) -> dict[str, dict[str, float]]:
    reference = seen.pop("reference").astype(np.float64)
    frechet, kernel = FrechetTo.of_features(reference), KernelTo(reference)
    figures: dict[str, dict[str, float]] = {}
    for kind in seen:
        n = len(seen[kind])
        figures[kind] = {"clips": n}
        for name, to in (("fvd", frechet), ("kvd", kernel)):
            of = to.prepared(seen[kind])
            found = bootstrap(of, n)
            figures[kind] |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        figures[kind]["fvd_endless"] = endless(frechet.prepared(seen[kind]), n)
        if kind in latent:
            figures[kind]["latent_fd"] = latent[kind]
    return figures


def show(figures: dict[str, dict[str, float]]) -> None:
    real = figures["real, held out"]
    print("| clips | FVD (95 %) | endless | KVD (95 %) | latent FD | above the real ones by FVD, KVD |")
    print("|---|---|---|---|---|---|")
    for kind, one in figures.items():
        above = ["apart" if one[f"{k}_low"] > real[f"{k}_high"] else "not apart" for k in ("fvd", "kvd")]
        latent = f"{one['latent_fd']:.3f}" if "latent_fd" in one else "-"
        print(
            f"| {kind} | {one['fvd']:.1f} ({one['fvd_low']:.1f} to {one['fvd_high']:.1f}) | {one['fvd_endless']:.1f} | "
            f"{one['kvd']:.2f} ({one['kvd_low']:.2f} to {one['kvd_high']:.2f}) | {latent} | "
            f"{'-' if kind == 'real, held out' else ', '.join(above)} |"
        )


if __name__ == "__main__":
    main()
