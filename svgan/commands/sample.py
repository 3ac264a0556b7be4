"""`svgan sample`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from svgan.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from svgan.images.domain import Domain
    from svgan.latents.manifest import Latents
    from svgan.reports.progress import Stages
    from svgan.sampling.paste_back import Place
    from svgan.sampling.render import Mover
    from svgan.sampling.sampler import Sampler
    from svgan.sampling.subject import Subject

HELP = "sample a clip of any length from a checkpoint"
ABOUT = """\
Make a clip of any length, in constant memory, at the footage's frame rate. Recipes stylegan-v and stylegan-v-codes
take any rate and any start. The same seed gives the same clip, and a longer clip begins with the shorter one. Frames
below 256 px are enlarged by a whole factor in .mp4 and .gif. A .gif has at most 50 frames a second; above, use .mp4.

  svgan sample runs/one --out clip.mp4
  svgan sample runs/one --frames 1000 --clips 9 --truncation 0.8 --out nine.gif
  svgan sample runs/two --fps 60 --start 90 --frames 600 --out later.mp4       recipe stylegan-v: any time
  svgan sample runs/one --subject you.jpg --json moved.json --out you.mp4      the motion on another person
  svgan sample runs/hd --clips 9 --share motion --out nine.mp4                 MoCoGAN-HD: one motion, nine people
  svgan sample runs/me --paste-back me.mp4 --out again.mp4                     the face in the recorded frames

--subject takes a photo of one face, or a set of latents of svgan embed (its mean code). The command prints how well it
went. identity_similarity is a cosine with the target; identity_distance is below 0.6 for one person; source_distance is
that of the original clip. Correlations say how mouth, eyes and yaw follow the original clip.

--paste-back takes a video that was embedded into the run's latents, or into those of --subject. It shows the video's
longest clip from its first frame on, in its own size, for --frames frames or as many as it has. Only the face is
replaced, under a soft mask.

Cost: 4 s to start and 3 s of a core for 250 frames of the default domain. A frame of a full-size network takes 1 s
at 256 px and 2 s at 1024 px. --paste-back adds 0.1 s per frame. --subject measures at most 60 frames, and takes two
frames and 1 s for each.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="RUN", help="a run's folder (its best checkpoint), or a checkpoint"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help=".mp4, .gif, or a folder of PNG pictures"
    )
    parser.add_argument("--frames", type=int, default=250, metavar="N", help="frames of the clip (250)")
    parser.add_argument(
        "--fps", type=float, metavar="X", help="frames a second, for systems that allow any (the footage's)"
    )
    parser.add_argument("--start", type=float, metavar="S", help="start in seconds, for systems that allow any (0)")
    parser.add_argument("--clips", type=int, default=1, metavar="N", help="clips side by side in one picture (1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, another clip (0)")
    parser.add_argument("--truncation", type=float, default=1.0, metavar="X", help="below 1: nearer the mean code (1)")
    parser.add_argument("--share", metavar="WHAT", help="motion or content: give all clips the first one's")
    parser.add_argument("--subject", metavar="WHO", help="a photo or codes of another person, who gets the motion")
    parser.add_argument("--offset", default="orthogonal", metavar="HOW", help="plain or orthogonal (orthogonal)")
    parser.add_argument("--paste-back", type=Path, metavar="VIDEO", help="put the face into this video's frames")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of --subject to this file too")
    parser.add_argument("--domain", help="what renders (the run's)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")


def run(options: argparse.Namespace) -> None:
    from svgan.io import video_writer
    from svgan.latents.shards import open_latents
    from svgan.reports.evaluation import write_figures
    from svgan.reports.progress import Stages, bars, plain_console
    from svgan.runs.loading import choose_latents, load_pair
    from svgan.sampling import content_motion, paste_back, render
    from svgan.sampling.sampler import check_truncation
    from svgan.sampling.subject import load_subject
    from svgan.torch_utils.device import pick_device

    video_writer.check_suffix(options.out)
    check_truncation(options.truncation)
    _check(options, render.OFFSETS)
    sampler, domain = load_pair(options.checkpoint, options.domain, pick_device(options.device))
    sampler = sampler.timed(options.fps, options.start or 0.0)

    def footage() -> Latents:
        return open_latents(choose_latents(options.checkpoint, None, domain), domain=domain.digest)

    subject = load_subject(options.subject, domain) if options.subject is not None else None
    move: Mover | None = content_motion.sharing(sampler, options.share) if options.share is not None else None
    if subject:
        move = render.make_mover(sampler, subject.code, options.offset, footage)
    place = paste_back.find_place(options.paste_back, _sets(subject, footage())) if options.paste_back else None
    length = min(options.frames, place.frames) if place else options.frames
    fps = place.fps if place else sampler.meta.get("fps", 25.0)
    console = plain_console()
    with bars(console) as progress:
        figures = (
            _measured(options, sampler, domain, subject, move, length, Stages(progress)) if subject and move else {}
        )
        frames = _frames(options, sampler, domain, move, place, length)
        smallest = 1 if place else video_writer.SMALLEST
        video_writer.write_clip(
            progress.track(frames, length, description="frames"), options.out, fps, smallest=smallest
        )
    for name, value in figures.items():
        console.print(f"{name:20} {'-' if value is None else value}")
    if figures.get("faces") == 0:
        console.print("no frame shows a face, so the rest is not known; does this domain make any (its subjects.png)?")
    if options.json:
        write_figures({"offset": options.offset, "subject": options.subject, **figures}, options.json)
    if length < options.frames:
        console.print(f"{length} frames: {options.paste_back} has no longer clip of one face")
    print(options.out)


def _check(options: argparse.Namespace, offsets: tuple[str, ...]) -> None:
    for flag, value in (("--clips", options.clips), ("--frames", options.frames)):
        if value < 1:
            raise UserError(f"{flag} {value}: must be 1 or more")
    if options.share is not None and options.subject is not None:
        raise UserError("--subject: is another content for all clips, and moves as they do; leave it or --share out")
    if options.share is not None and options.clips == 1:
        raise UserError("--clips 1: nothing to share with; give 2 or more, or leave --share out")
    if options.offset not in offsets:
        raise UserError(f"--offset {options.offset}: unknown; one of {', '.join(offsets)}")
    if options.paste_back is not None and options.clips != 1:
        raise UserError(f"--clips {options.clips}: one face goes into a recorded frame; leave it out")
    if options.paste_back is not None and options.fps is not None:
        raise UserError(f"--fps {options.fps:g}: --paste-back keeps the video's rate; leave it out")
    if options.json is not None and options.subject is None:
        raise UserError("--json: figures are those of --subject; give one, or leave it out")


def _sets(subject: Subject | None, footage: Latents) -> list[Latents]:
    return [subject.latents, footage] if subject and subject.latents else [footage]


def _frames(
    options: argparse.Namespace,
    sampler: Sampler,
    domain: Domain,
    move: Mover | None,
    place: Place | None,
    length: int,
) -> Iterator[np.ndarray]:
    from svgan.sampling import paste_back, render

    faces = render.frames(
        sampler,
        domain,
        clips=options.clips,
        length=length,
        seed=options.seed,
        truncation=options.truncation,
        move=move,
    )
    return paste_back.paste_faces(place, faces) if place else faces


def _measured(
    options: argparse.Namespace,
    sampler: Sampler,
    domain: Domain,
    subject: Subject,
    move: Mover,
    length: int,
    stages: Stages,
) -> dict[str, float | None]:
    from svgan.metrics.transfer import evenly, transfer

    codes = evenly(sampler.stream(options.clips, length, options.seed, truncation=options.truncation), length)
    figures = transfer(codes, move, subject.code, domain, lambda *done: stages("reading faces", *done))
    return figures.to_json()
