"""`svgan domain`."""

from __future__ import annotations

import argparse
from pathlib import Path

from svgan.errors import UserError

HELP = "train a StyleGAN2 with its encoder on footage"
ABOUT = """\
Train a small StyleGAN2 (64 px) with its encoder on footage. Then complete its folder: the footage's codes, the real
side of FVD, figures on the held-out last tenth, a model card. A command that was killed continues when it is started
again. For a finished domain, figures and card are made again; a larger --steps first continues its training.

  svgan domain my_domain --footage me.mp4
  svgan domain my_domain --footage me.mp4 --steps 8000
  svgan domain my_domain --footage me.mp4 --others you.mp4 --pictures look/

Cost: training 1 s per step on one core, so 80 min; 5000 steps give a face that moves its lips and blinks, 20 a blur.
Before it: 30 to 80 ms per frame for the landmarks, once per video. After it: the real side of FVD, up to 512 clips.
They take 0.3 s each on a core that multiplies bfloat16 (AMX) and 1.4 s on others, so 2 to 12 min. A clip of 60 frames
has fewer windows and takes 20 s. Then the figures take a minute. The real side has the precision that is usual on this
machine; sweeps with another one make and cache their own.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the domain's folder; an existing one is continued")
    parser.add_argument("--footage", required=True, type=Path, metavar="VIDEO", help="the subject; its end is held out")
    parser.add_argument(
        "--others", nargs="+", type=Path, default=[], metavar="VIDEO", help="videos of further people, one person each"
    )
    parser.add_argument("--name", help="the domain's name on the card (the folder's name)")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="steps in all, of 16 pictures each (as asked before, else 5000)"
    )
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write frames beside their reconstructions here")
    parser.add_argument("--sources", type=Path, metavar="FILE", help="a text on sources and terms, for the card")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")


def run(options: argparse.Namespace) -> None:
    from svgan.pipelines.make_domain import make_domain
    from svgan.reports.progress import Stages, bars, plain_console
    from svgan.torch_utils.device import pick_device

    console = plain_console()
    try:
        sources = options.sources.read_text() if options.sources else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"--sources {options.sources}: cannot be read ({reason})") from error
    with bars(console) as progress:
        made = make_domain(
            options.folder,
            options.footage,
            options.others,
            name=options.name or options.folder.resolve().name,
            steps=options.steps,
            sources=sources,
            pictures=options.pictures,
            device=pick_device(options.device),
            say=console.print,
            progress=Stages(progress),
        )
    console.print(f"{options.folder}: domain {made.digest}; see {options.folder / 'README.md'}")
