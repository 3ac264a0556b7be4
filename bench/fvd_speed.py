"""What FVD costs: ours against the straightforward float32 implementation, and where the time goes.

    python bench/fvd_speed.py                      128 clips of 25 frames, three ways by turns, 8 clips at a time
    python bench/fvd_speed.py --clips 2048 --ours --out long.json      ours alone, in its parts
    python bench/fvd_speed.py --minutes 5          stops after so long; the same command goes on

Clips are an untrained generator's on the default domain; what a frame costs does not depend on what it shows. The
straightforward way is the network as it is usually written (batch norms and branches apart, a strided first layer, the
channels first in memory), features in a list, numpy.cov, scipy.linalg.sqrtm. Rendering is the same code for all.
Ratios are of blocks of the same 8 clips, one right after the other; CPU seconds beside them, for a machine that others
use too.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from svgan.assets import cache
from svgan.images.domain import Domain
from svgan.io.atomic import write_whole
from svgan.latents.shards import open_latents
from svgan.latents.spaces import make_space
from svgan.metrics import fvd, i3d
from svgan.metrics.frechet import frechet_distance
from svgan.metrics.moments import Moments
from svgan.metrics.protocol import PROTOCOLS, usual_precision
from svgan.metrics.windows import GROUP, rollouts
from svgan.sampling.sampler import Sampler
from svgan.systems.stylevideogan import recipes
from svgan.systems.stylevideogan.networks import make_motion

BLOCK, EVERY = 8, 4  # clips timed at a time; every such block ours in float32 too
PARTS = ("codes", "rendering", "resize", "i3d")


class Plain:
    """I3D from the weights of the usual port, layer by layer as papers draw it."""

    def __init__(self, state: Mapping[str, Tensor]):
        self.state = state

    def unit(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.conv3d.weight"]
        x = F.conv3d(padded(x, weight.shape[2:], (stride,) * 3), weight, stride=stride)
        mean, variance, bias = (self.state[f"{name}.bn.{key}"] for key in ("running_mean", "running_var", "bias"))
        return F.relu(F.batch_norm(x, mean, variance, self.state.get(f"{name}.bn.weight"), bias, eps=1e-3))

    def pool(self, x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
        return F.max_pool3d(padded(x, kernel, stride), kernel, stride)

    def mixed(self, x: Tensor, name: str) -> Tensor:
        unit = self.unit
        b1, b2 = (unit(unit(x, f"{name}.b{k}a"), f"{name}.b{k}b") for k in (1, 2))
        b3 = unit(self.pool(x, (3, 3, 3), (1, 1, 1)), f"{name}.b3b")
        return torch.cat([unit(x, f"{name}.b0"), b1, b2, b3], 1)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """[n, 3, T, 224, 224] to logits [n, 400]."""
        x = self.pool(self.unit(x, "Conv3d_1a_7x7", 2), (1, 3, 3), (1, 2, 2))
        x = self.unit(self.unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
        x = self.pool(x, (1, 3, 3), (1, 2, 2))
        for name in i3d.MIXED:
            if name == "Mixed_4b":
                x = self.pool(x, (3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                x = self.pool(x, (2, 2, 2), (2, 2, 2))
            x = self.mixed(x, name)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)
        x = F.conv3d(x, self.state["logits.conv3d.weight"], self.state["logits.conv3d.bias"])
        return x.mean((2, 3, 4))


def padded(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    pads = [i3d.same_padding(n, k, s) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    return F.pad(x, [p for pair in reversed(pads) for p in pair])


@contextmanager
def timed(row: dict[str, float], name: str, device: torch.device) -> Iterator[None]:
    """Wall and CPU seconds are added to row's `name` and `name cpu`."""

    def now() -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    wall, cpu = now()
    yield
    ended = now()
    row[name] = row.get(name, 0) + ended[0] - wall
    row[f"{name} cpu"] = row.get(f"{name} cpu", 0) + ended[1] - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--ours", action="store_true", help="ours alone")
    parser.add_argument("--out", type=Path, default=Path("fvd_speed.json"), help="rows so far [%(default)s]")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    rows = json.loads(asked.out.read_text()) if asked.out.exists() else []
    for row in measured(asked, len(rows)):
        rows.append(row)
        with write_whole(asked.out) as aside:
            aside.write_text(json.dumps(rows) + "\n")
    show(rows, asked)


def measured(asked: argparse.Namespace, done: int) -> Iterator[dict[str, float]]:
    """A row for each block of clips that is not done yet."""
    device, until = torch.device(asked.device), time.monotonic() + 60 * asked.minutes
    domain = Domain.load("default", device)
    sampler, protocol = made(domain, asked.clips)
    state = {name: value.to(device) for name, value in torch_state().items()}
    ours = i3d.build(state, device=device, precision=protocol.precision)
    exact, plain = (None, None) if asked.ours else (i3d.build(state, device=device), Plain(state))
    batch = fvd.batch_of(device)
    number, begun = 0, time.perf_counter()
    for group in rollouts(sampler, {"p": protocol}, 0):
        codes_took = (time.perf_counter() - begun) * BLOCK / GROUP
        for codes in group["p"].split(BLOCK):
            number += 1
            if number <= done:
                continue
            if time.monotonic() > until:
                return
            row: dict[str, float] = {"clips": len(codes), "codes": codes_took, "load": os.getloadavg()[0]}
            with timed(row, "rendering", device):
                clips = torch.from_numpy(np.stack([domain.render(clip) for clip in codes]))
            seen = looked(ours, clips, batch, row, "", device)
            if plain is not None and exact is not None:
                if number % EVERY == 1:
                    looked(exact, clips, batch, row, "float32 ", device)
                with timed(row, "plain", device), torch.inference_mode():
                    theirs = torch.cat([plain(i3d.preprocess(some.to(device))) for some in clips.split(batch)])
                row["off"] = float((seen - theirs).norm() / theirs.norm())
            yield row
        begun = time.perf_counter()


def looked(
    network: i3d.I3D, clips: Tensor, batch: int, row: dict[str, float], name: str, device: torch.device
) -> Tensor:
    found = []
    for some in clips.split(batch):
        with timed(row, f"{name}resize", device):
            frames = i3d.preprocess(some.to(device))
        with timed(row, f"{name}i3d", device), torch.inference_mode():
            found.append(network.features(frames))
    return torch.cat(found)


def made(domain: Domain, clips: int):  # type: ignore[no-untyped-def]
    """An untrained generator of recipe tiny, and svg-short with so many clips."""
    latents = open_latents(domain.latents_uri, domain=domain.digest)
    config = recipes.tiny()
    space = make_space(config.space, latents, config.components).to(domain.device)
    torch.manual_seed(0)
    motion = make_motion(config, space.width).eval().to(domain.device)
    precision = usual_precision(str(domain.device))
    return Sampler(motion, space, {}), replace(PROTOCOLS["svg-short"], clips=clips, precision=precision)


def torch_state() -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(cache.path("i3d"))


def roots() -> dict[str, float]:
    """Seconds of the distance between made moments of 400 features, ours and by scipy's sqrtm."""
    from scipy.linalg import sqrtm

    row: dict[str, float] = {}
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(2048, 400)).astype(np.float32) for _ in range(2))
    cpu = torch.device("cpu")
    with timed(row, "square root", cpu):
        ours, theirs = (Moments(400).update(z) for z in (x, y))
        one = frechet_distance(ours.mean, ours.cov, theirs.mean, theirs.cov)
    with timed(row, "plain", cpu):
        a, b = np.cov(x.T), np.cov(y.T)
        root = sqrtm(a @ b).real
        other = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * root)
    assert abs(one - other) < 1e-4 * other
    return row


def show(rows: list[dict[str, float]], asked: argparse.Namespace) -> None:
    clips = sum(row["clips"] for row in rows)
    root = roots()
    precision = usual_precision(asked.device)
    loads = [row["load"] for row in rows]
    load = f"load {min(loads):.1f} to {max(loads):.1f}"
    print(f"{clips:.0f} of {asked.clips} clips, {precision}, {asked.threads} threads, {load}")
    print("\n| part | s | CPU s | a clip, CPU ms |\n|---|---|---|---|")
    for part in PARTS:
        wall, cpu = (sum(row.get(key, 0) for row in rows) for key in (part, f"{part} cpu"))
        print(f"| {part} | {wall:.1f} | {cpu:.1f} | {1000 * cpu / clips:.0f} |")
    print(f"| square root | {root['square root']:.2f} | {root['square root cpu']:.2f} | |")
    if not all("plain" in row for row in rows):
        return
    cpu = sum(row["plain cpu"] for row in rows)
    wall = sum(row["plain"] for row in rows)
    print(f"| straightforward: resize, I3D | {wall:.1f} | {cpu:.1f} | {1000 * cpu / clips:.0f} |")
    print(f"| straightforward: square root | {root['plain']:.2f} | {root['plain cpu']:.2f} | |")
    both = [row for row in rows if "float32 i3d" in row]
    for name, ending in (("by the clock", ""), ("of CPU seconds", " cpu")):
        network = [row[f"plain{ending}"] / (row[f"resize{ending}"] + row[f"i3d{ending}"]) for row in rows]
        all_of_it = [
            (row[f"plain{ending}"] + row[f"rendering{ending}"])
            / sum(row[f"{part}{ending}"] for part in ("rendering", "resize", "i3d"))
            for row in rows
        ]
        exact = [row[f"plain{ending}"] / (row[f"float32 resize{ending}"] + row[f"float32 i3d{ending}"]) for row in both]
        said = "; ".join(
            f"{what} {np.median(of):.2f} ({min(of):.2f} to {max(of):.2f})"
            for what, of in (("resize and I3D", network), ("with rendering", all_of_it), ("ours in float32", exact))
        )
        print(f"\nstraightforward over ours, {name}, median of blocks (least to most): {said}")
    off = 100 * np.mean([row["off"] for row in rows])
    print(f"\nfeatures off the straightforward ones by {off:.2g} % of their length")


if __name__ == "__main__":
    main()
