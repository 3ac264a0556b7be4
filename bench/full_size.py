"""What each step costs in a domain of the size that researchers bring: seconds, CPU seconds and memory, at 256 and
1024 px, with a pSp encoder (267 million parameters) and the paper's recipe, all of random weights.

    python bench/full_size.py                          both sizes
    python bench/full_size.py --sizes 1024 --device cuda
    python bench/full_size.py --sizes 64 --evaluate    and FVD: 2 clips twice, 2 of the footage; 150 frames rendered

Each step is a process of its own, so that its peak is its own. Finding faces in footage is not in it: `svgan embed`
says its cost. Cost: 10 min on two idle cores, 4 GB of disk. What came out: bench/LOG.md and the README.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
FRAMES, CLIP, STEPS = 8, 4, 2  # encoded, rendered; generator steps
CLIPS, WINDOW = 2, 25  # of FVD, on either side; frames of each
RATE = 25


def make(folder: Path, size: int) -> None:
    """A pSp checkpoint with its generator, as its authors write one."""
    import torch

    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    from checkpoint_files import channels, psp, rosinality

    widths = channels(size)
    torch.save(psp(2 * len(widths), decoder=rosinality(512, widths)), folder / "psp.pt")


def import_(folder: Path, device: str) -> None:
    from svgan import cli

    if cli.run(["import", str(folder / "psp.pt"), "--out", str(folder / "domain"), "--device", device]):
        raise SystemExit(1)


def encode(folder: Path, device: str) -> None:
    """Codes of FRAMES crops; a walk through W, 60 frames long, stands for the footage's."""
    import numpy as np
    import torch

    from svgan.images.domain import Domain
    from svgan.latents.manifest import VideoCodes
    from svgan.latents.shards import write_latents

    domain = Domain.load(folder / "domain", device)
    crops = np.random.default_rng(0).integers(0, 256, (FRAMES, 256, 256, 3), np.uint8)
    domain.encode(crops[:1])
    began = time.process_time()
    domain.encode(crops)
    print(f"  encode: {(time.process_time() - began) / FRAMES:.2f} CPU s a frame")
    walk = torch.randn(60, domain.config.num_layers, 512, generator=torch.Generator().manual_seed(0)).cumsum(0) * 0.02
    codes = (domain.generator.w_avg.cpu() + walk).numpy()
    write_latents(folder / "codes", [VideoCodes("walk", np.arange(60), codes)], domain=domain.digest, fps=RATE)


def train(folder: Path, device: str) -> None:
    """STEPS of recipe paper, without the clip that `svgan train` makes at the end."""
    import torch

    from svgan.runs.folder import plan_run
    from svgan.runs.training import train_run
    from svgan.training.reporter import NullReporter

    run = plan_run(
        folder / "run",
        "paper",
        {"steps": STEPS},
        domain=str(folder / "domain"),
        latents=str(folder / "codes"),
        report_every=STEPS,
        resume=False,
    )
    began = time.process_time()
    train_run(run, folder / "run", reporter=NullReporter(), device=torch.device(device))
    print(f"  train: {(time.process_time() - began) / STEPS:.1f} CPU s a step, the report and checkpoint in it")


def sample(folder: Path, device: str) -> None:
    from svgan import cli

    flags = ["--frames", str(CLIP), "--out", str(folder / "clip.mp4"), "--device", device]
    began = time.process_time()
    if cli.run(["sample", str(folder / "run"), *flags]):
        raise SystemExit(1)
    print(f"  sample: {(time.process_time() - began) / CLIP:.2f} CPU s a frame")


def evaluate(folder: Path, device: str) -> None:
    """FVD short and long of CLIPS clips against as many windows of the walk, whose moments nothing keeps."""
    from svgan import cli
    from svgan.assets import cache

    network = cache.path("i3d").parent
    (folder / "cache").mkdir()
    (folder / "cache" / "i3d").symlink_to(network)
    os.environ["SVGAN_CACHE"] = str(folder / "cache")
    few = ["--clips", str(CLIPS), "--real-clips", str(CLIPS), "--device", device]
    began = time.process_time()
    if cli.run(["evaluate", str(folder / "run"), *few]):
        raise SystemExit(1)
    print(f"  evaluate: {(time.process_time() - began) / (3 * CLIPS * WINDOW):.2f} CPU s a rendered frame, I3D's in it")


STEPS_OF = {"import": import_, "encode": encode, "train": train, "sample": sample}


def measured(call, *arguments) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory in GB of `call` in a process of its own. Raises SystemExit if it fails."""
    began = time.perf_counter()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            call(*arguments)
            code = 0
        except BaseException as error:
            print(f"{call.__name__}: {error}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{call.__name__} failed")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sizes", type=int, nargs="+", default=[256, 1024], metavar="PX")
    p.add_argument("--device", default="cpu")
    p.add_argument("--evaluate", action="store_true", help="also FVD, at seconds a frame")
    p.add_argument("--folder", type=Path, help="for checkpoints and domains [a temporary one]")
    asked = p.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {asked.device}")
    for size in asked.sizes:
        with tempfile.TemporaryDirectory(dir=asked.folder, prefix="svgan-full-size-") as name:
            folder = Path(name)
            measured(make, folder, size)
            print(f"\n{size} px, {(folder / 'psp.pt').stat().st_size / 1e9:.1f} GB\n")
            steps = STEPS_OF | ({"evaluate": evaluate} if asked.evaluate else {})
            rows = [(step, *measured(call, folder, asked.device), os.getloadavg()[0]) for step, call in steps.items()]
            print("\n| step | s | CPU s | peak GB | load |\n|---|---|---|---|---|")
            for step, wall, cpu, peak, load in rows:
                print(f"| {step} | {wall:.0f} | {cpu:.0f} | {peak:.1f} | {load:.1f} |")


if __name__ == "__main__":
    main()
