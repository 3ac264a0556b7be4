"""`svgan embed`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from svgan.pipelines.embed import Embedded

HELP = "embed videos: one W+ code per frame"
ABOUT = """\
Make a set of latents from videos: find the face, align it (landmarks smoothed over time), encode every frame to W+.

Whatever interrupts the subject splits the video into clips: no face, a cut, other people, missing frames. One line per
video counts these (docs/footage.md). A video without one clear face is named and left out. A command that was killed
continues from SVGAN_CACHE when it is started again. The origin of each code is kept beside the codes, so that a frame
can be pasted back.

  svgan embed me.mp4 --out latents/me
  svgan embed day1.mp4 day2.mp4 --domain hands --out s3://bucket/codes/hands
  svgan embed me.mp4 --out latents/me --frames     the recorded frames too, for systems that learn from frames

Cost: per frame on one core, 30 to 100 ms for the landmarks, once per video, and 15 to 80 ms for the crop. A code takes
10 to 30 ms in a domain of svgan's own, and 1 to 2 s with a pSp or e4e encoder, which is made for a GPU. Memory grows
with a video's codes only: 0.9 GB for ten minutes of 1080p, some 3 GB with pSp's encoder for 1024 px.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="files with one face each")
    parser.add_argument("--out", required=True, metavar="URI", help="a new folder, or a URL such as s3://bucket/prefix")
    parser.add_argument("--domain", default="default", help="'default' or a domain's folder")
    parser.add_argument("--components", type=int, default=64, metavar="N", help="principal axes to keep (64)")
    parser.add_argument(
        "--frames",
        action="store_true",
        help="keep the recorded crops beside the codes, at the domain's size, for --footage without names elsewhere",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")


def run(options: argparse.Namespace) -> None:
    from svgan.images.domain import Domain
    from svgan.pipelines.embed import embed
    from svgan.reports.progress import EmbedBars, bars, plain_console
    from svgan.torch_utils.device import pick_device

    console = plain_console()
    domain = Domain.load(options.domain, pick_device(options.device))
    with bars(console) as progress:
        made = embed(
            options.videos,
            domain,
            options.out,
            components=options.components,
            frames=options.frames,
            watcher=EmbedBars(progress),
        )
    tell(console, options.out, options.videos, made)


def tell(console: Console, out: str, videos: Sequence[str], made: Embedded) -> None:
    """Print what was written, and which videos were left out and why."""
    used = len(made.manifest.videos)
    console.print(f"{out}: {made.manifest.rows} frames of {used} video{'s' * (used != 1)}")
    if made.failures:
        console.print(f"{len(made.failures)} of {len(videos)} videos left out:")
        for reason in made.failures.values():
            console.print(f"  {reason}", soft_wrap=True)
