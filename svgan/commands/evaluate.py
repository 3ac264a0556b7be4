"""`svgan evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "FVD of a checkpoint, short and long"
ABOUT = """\
FVD of generated against real clips: short (25 frames) and long (the last 25 of 250), each against the footage's
codes re-rendered (W+) and, where its moments ship with the domain or --footage is given, against the original frames.
Figures compare only under one protocol hash; few clips bias FVD upwards.

  svgan evaluate runs/one
  svgan evaluate runs/one --clips 2048 --real-clips 2048 --json figures.json

Cost: 0.1 to 1 s a clip on one core, real clips the first time only.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="RUN", help="a run's folder (its best checkpoint), or a checkpoint"
    )
    parser.add_argument("--clips", type=int, default=64, metavar="N", help="generated clips (64)")
    parser.add_argument("--real-clips", type=int, default=256, metavar="N", help="real windows (256)")
    parser.add_argument("--precision", metavar="TYPE", help="of I3D: float32 or bfloat16 (the device's usual)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the generated clips (0)")
    parser.add_argument("--latents", metavar="URI", help="the real side (what the run was trained on)")
    parser.add_argument("--footage", nargs="+", metavar="VIDEO", help="the videos embedded, for the original reference")
    parser.add_argument("--domain", help="what renders (the run's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")


def run(options: argparse.Namespace) -> None:
    from svgan.bars import Stages, bars, plain_console
    from svgan.embed import original_frames
    from svgan.judge import figures_table, write_figures
    from svgan.latents.shards import open_latents
    from svgan.metrics import fvd
    from svgan.runs import latents_of, load_pair, pick_device

    device, console = pick_device(options.device), plain_console()
    sampler, domain = load_pair(options.checkpoint, options.domain, device)
    latents = open_latents(latents_of(options.checkpoint, options.latents, domain), domain=domain.digest)
    frames = original_frames(latents, options.footage, domain) if options.footage else None
    with bars(console) as progress:
        figures = fvd.score(
            sampler,
            domain,
            latents,
            clips=options.clips,
            real_clips=options.real_clips,
            precision=options.precision,
            seed=options.seed,
            frames=frames,
            device=device,
            progress=Stages(progress),
        )
    console.print(figures_table(figures, options.clips, options.real_clips))
    if options.json:
        write_figures(figures, options.json)
