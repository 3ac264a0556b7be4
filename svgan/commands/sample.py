"""`svgan sample`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from svgan.errors import UserError

if TYPE_CHECKING:
    from svgan.latents.shards import Latents

HELP = "clips of any length from a checkpoint"
ABOUT = """\
Make a clip. The same seed gives the same clip; a longer one begins with the shorter.

  svgan sample runs/one --out clip.mp4
  svgan sample runs/one --frames 1000 --clips 9 --truncation 0.8 --out nine.gif
  svgan sample runs/one --subject codes/you --out you.mp4         the motion on another person

Cost: about 1 s for 250 frames of 64 px on one core.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="RUN", help="a run's folder (its best checkpoint), or a checkpoint"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help=".mp4, .gif, or a folder of PNG pictures"
    )
    parser.add_argument("--frames", type=int, default=250, metavar="N", help="length (250)")
    parser.add_argument("--clips", type=int, default=1, metavar="N", help="clips side by side in one picture (1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, another clip (0)")
    parser.add_argument("--truncation", type=float, default=1.0, metavar="X", help="below 1: nearer the mean code (1)")
    parser.add_argument("--subject", metavar="URI", help="codes of another person, who is to make these movements")
    parser.add_argument("--offset", default="orthogonal", metavar="HOW", help="plain or orthogonal (orthogonal)")
    parser.add_argument("--domain", help="what renders (the run's)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")


def run(options: argparse.Namespace) -> None:
    from svgan import render, video
    from svgan.bars import bars, plain_console
    from svgan.latents.shards import open_latents
    from svgan.runs import latents_of, load_pair, pick_device

    video.check_suffix(options.out)
    if options.offset not in render.OFFSETS:
        raise UserError(f"--offset {options.offset}: unknown; one of {', '.join(render.OFFSETS)}")
    sampler, domain = load_pair(options.checkpoint, options.domain, pick_device(options.device))
    move = None
    if options.subject is not None:

        def footage() -> Latents:
            return open_latents(latents_of(options.checkpoint, None, domain), domain=domain.digest)

        move = render.mover(sampler, open_latents(options.subject, domain=domain.digest), options.offset, footage)
    frames = render.frames(
        sampler,
        domain,
        clips=options.clips,
        length=options.frames,
        seed=options.seed,
        truncation=options.truncation,
        move=move,
    )
    with bars(plain_console()) as progress:
        video.write_clip(
            progress.track(frames, options.frames, description="frames"), options.out, sampler.meta.get("fps", 25.0)
        )
    print(options.out)
