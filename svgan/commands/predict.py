"""`svgan predict`."""

from __future__ import annotations

import argparse
from pathlib import Path

from svgan.errors import UserError

HELP = "continue a given first frame (MoCoGAN-HD)"
ABOUT = """\
Continue a first frame with a run of the mocogan-hd recipes; the other systems start from noise.

The first frame is a photo of one face. Without --first-frame, the command continues frames of the footage that the run
learned from. It then prints PSNR and SSIM against the true continuation, of the prediction and of the frozen first
frame.

  svgan predict runs/hd --first-frame me.jpg --out me.mp4
  svgan predict runs/hd --clips 64 --json prediction.json --out first.mp4      how well; the clip is the first stretch's
  svgan predict runs/hd --latents latents/later --footage --out later.mp4      on footage held out, against its frames

The figures are means over frames 2 to --frames, at the footage's frame rate. The reference is what the footage's codes
render. With --footage it is the recorded frames; then the figures of the rendered codes (bound) are printed too, which
no prediction in this domain exceeds.

Cost: 16 frames of 4 stretches in the default domain take 10 s of one core, most of it the start.
"""
LEAST = 2


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="RUN", help="a run's folder, or a checkpoint")
    parser.add_argument("--first-frame", metavar="PHOTO", help="a photo of one face, or a set of codes (its mean)")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help=".mp4, .gif, or a folder of PNG pictures"
    )
    parser.add_argument("--frames", type=int, default=16, metavar="N", help="length, the first frame included (16)")
    parser.add_argument("--clips", type=int, default=16, metavar="N", help="stretches of the footage (16)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, another future (0)")
    parser.add_argument("--latents", metavar="URI", help="the footage (what the run learnt from: nothing is held out)")
    parser.add_argument(
        "--footage",
        nargs="*",
        metavar="VIDEO",
        help="against the recorded frames, of the videos embedded; none named: those kept beside the codes",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    parser.add_argument("--domain", help="what renders (the run's)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")


def run(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    import torch

    from svgan.io import video_writer
    from svgan.latents.shards import open_latents
    from svgan.reports.evaluation import write_figures
    from svgan.runs.loading import choose_latents, load_pair
    from svgan.sampling import prediction
    from svgan.sampling.subject import load_subject
    from svgan.torch_utils.device import pick_device
    from svgan.training.data import BESIDE, Material

    video_writer.check_suffix(options.out)
    for flag, value, least in (("--clips", options.clips, 1), ("--frames", options.frames, LEAST)):
        if value < least:
            raise UserError(f"{flag} {value}: must be {least} or more")
    for flag in ("json", "latents", "footage"):
        if getattr(options, flag) is not None and options.first_frame is not None:
            raise UserError(
                f"--{flag}: a photo's future is not known, so there are no figures; leave one of the two out"
            )
    sampler, domain = load_pair(options.checkpoint, options.domain, pick_device(options.device))
    if options.first_frame is None:
        latents = open_latents(choose_latents(options.checkpoint, options.latents, domain), domain=domain.digest)
        videos = () if options.footage is None else tuple(options.footage) or (BESIDE,)
        material = Material(domain=domain, latents=latents, videos=videos)
        found = prediction.measured(sampler, material, clips=options.clips, length=options.frames, seed=options.seed)
        figures = {name: value for name, value in asdict(found).items() if value is not None}
        for name, value in figures.items():
            print(f"{name:12} {value if isinstance(value, int) else round(value, 3)}")
        seen = latents.digest == sampler.meta.get("latents")
        print(
            f"against {'recorded frames' if videos else 'the codes, rendered'}; {'learnt from' if seen else 'held out'}"
        )
        if options.json:
            write_figures(figures | {"held_out": not seen}, options.json)
        code = latents.codes[latents.windows(options.frames)[0]]
    else:
        code = load_subject(options.first_frame, domain, "--first-frame").code
    codes = prediction.continued(sampler, torch.from_numpy(code)[None], options.frames, options.seed)
    frames = domain.render(codes[0])
    video_writer.write_clip(iter(frames), options.out, sampler.meta.get("fps", 25.0), smallest=video_writer.SMALLEST)
    print(options.out)
