"""`svgan evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from rich.console import Console

    from svgan.images.domain import Domain
    from svgan.latents.manifest import Latents
    from svgan.metrics.features import Extractor, Kind
    from svgan.metrics.fvd import Progress
    from svgan.sampling.sampler import Sampler

HELP = "measure FVD and other figures of a checkpoint or a domain"
ABOUT = """\
Measure the FVD of generated against real clips: short (25 frames) and long (the last 25 of 250).

Each is measured against the footage's codes, re-rendered (W+). It is also measured against the original frames, if
their moments ship with the domain or --footage is given. Figures compare under one protocol hash only. Few clips bias
FVD upwards. All figures have a 95 % interval.

  svgan evaluate runs/one
  svgan evaluate runs/one --protocol svg-short,svg-long --metrics fvd,kvd,loops        more than FVD
  svgan evaluate runs/one --protocol svg-long --clips 2048 --real-clips 2048 --json figures.json
  svgan evaluate runs/one --protocol svg-long --against runs/two          which is better, and how sure that is
  svgan evaluate runs/one --protocol svg-long --report one.html           a page: figures, clips, plots of the motion
  svgan evaluate --domain ffhq --footage me.mp4                           PSNR, SSIM, identity of reconstructions

Protocols: svg-short, svg-long, stylegan-v-16, stylegan-v-128, stylegan-v-128-s8, mocogan-hd-16 (docs/judging.md).
Metrics: fvd, kvd, fid, kid, identity (ACD, distance from the subject), loops (with motion and phi). The last line of
the output is JSON.

Cost: on one core, 0.1 to 1 s per clip, real clips the first time only. fid and kid take 0.4 s per picture, 4 per clip;
identity 0.1 s per frame, 128 of them. An interval takes a tenth of a second, above 400 clips 20 s. A page renders 1500
frames. In a domain of full size, each of the 25 frames of a clip takes 1 s at 256 px and 2 s at 1024 px.
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", metavar="RUN", help="a run's folder (its best checkpoint), or a checkpoint"
    )
    parser.add_argument(
        "--protocol", metavar="NAMES", help="names, separated by commas (the short and long figures alone)"
    )
    parser.add_argument("--metrics", metavar="NAMES", help="names, separated by commas (fvd)")
    parser.add_argument(
        "--against", type=Path, metavar="RUN", help="another model, measured and compared under --protocol"
    )
    parser.add_argument("--clips", type=int, metavar="N", help="generated clips (the protocol's: svg-... 64)")
    parser.add_argument("--real-clips", type=int, metavar="N", help="real windows (the protocol's: svg-... 256)")
    parser.add_argument(
        "--precision", metavar="TYPE", help="I3D's precision, float32 or bfloat16 (the usual one of the device)"
    )
    parser.add_argument(
        "--arcface",
        type=Path,
        metavar="FILE",
        help="measure identity also by your model_ir_se50.pth (InsightFace_Pytorch's)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the generated clips (0)")
    parser.add_argument("--latents", metavar="URI", help="codes of the real clips (those that the run was trained on)")
    parser.add_argument(
        "--footage",
        nargs="*",
        metavar="VIDEO",
        help="the videos embedded, for the original reference; none named: the frames kept beside the codes",
    )
    parser.add_argument("--domain", help="what renders (the run's); without RUN, what reconstructs --footage")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write a page with figures, clips and plots, in one file"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (auto)")


def run(options: argparse.Namespace) -> None:
    from svgan.reports.evaluation import as_json, write_figures
    from svgan.reports.progress import Stages, bars, plain_console
    from svgan.torch_utils.device import pick_device

    _check(options)
    device, console = pick_device(options.device), plain_console()
    with bars(console) as progress:
        if options.checkpoint is None:
            figures = judge_domain(options, device, Stages(progress), console)
        else:
            figures = judge_model(options, device, Stages(progress), console)
    if options.json:
        write_figures(figures, options.json)
    print(as_json(figures), flush=True)


def _check(options: argparse.Namespace) -> None:
    if options.checkpoint is None:
        if not options.domain or not options.footage:
            raise UserError("RUN: give a run or checkpoint; or, for a domain's reconstructions, --domain and --footage")
        for flag in ("protocol", "metrics", "against", "latents", "report", "arcface"):
            if getattr(options, flag) is not None:
                raise UserError(f"--{flag}: is of a model's clips; give RUN too, or leave it out")
    elif options.protocol is None:
        for flag in ("metrics", "against", "report", "arcface"):
            if getattr(options, flag) is not None:
                raise UserError(f"--{flag}: needs a --protocol to be measured under, such as svg-short,svg-long")


def judge_model(
    options: argparse.Namespace, device: torch.device, progress: Progress, console: Console
) -> dict[str, Any]:
    """Measure a checkpoint; print the figures for people and return them as JSON."""
    from svgan.runs.loading import load_judged

    sampler, material = load_judged(options.checkpoint, options.domain, options.latents, options.footage, device)
    domain, latents, frames = material.domain, material.latents, material.recorded
    measure = usual if options.protocol is None else by_protocols
    about = {
        "checkpoint": str(options.checkpoint),
        "step": sampler.meta["step"],
        "domain": domain.digest,
        "latents": latents.digest,
        "seed": options.seed,
    }
    assessment = about | measure(options, sampler, domain, latents, frames, progress, console)
    if options.report:
        from svgan.reports.html_page import model_page, write_page

        title = f"{options.checkpoint}, step {sampler.meta['step']}"
        page = model_page(
            title, about, assessment, sampler, domain, latents, seed=options.seed, frames=frames, progress=progress
        )
        write_page(options.report, page)
        console.print(f"report: {options.report}")
    return assessment


def usual(
    options: argparse.Namespace,
    sampler: Sampler,
    domain: Domain,
    latents: Latents,
    frames: np.ndarray | None,
    progress: Progress,
    console: Console,
) -> dict[str, Any]:
    """Measure FVD short and long, as a study logs them, with intervals."""
    from svgan.metrics.protocol import usual_precision
    from svgan.reports.evaluation import assess, chosen, figures_table

    precision = options.precision or usual_precision(str(domain.device))
    short, long = chosen("svg-short,svg-long", options.clips, options.real_clips, precision)
    measured = assess(
        sampler,
        None,
        domain,
        latents,
        (short, long),
        ("fvd",),
        seed=options.seed,
        progress=progress,
        frames=frames,
        strict=False,
    )["figures"]
    figures = {name: one["value"] for name, one in measured.items()}
    figures |= {"protocol_short": short.hash, "protocol_long": long.hash}
    figures["intervals"] = {name: [one["low"], one["high"]] for name, one in measured.items()}
    console.print(figures_table(figures, short.clips, short.real_clips))
    return figures


def by_protocols(
    options: argparse.Namespace,
    sampler: Sampler,
    domain: Domain,
    latents: Latents,
    frames: np.ndarray | None,
    progress: Progress,
    console: Console,
) -> dict[str, Any]:
    """Measure the metrics asked for under the protocols asked for."""
    from svgan.metrics.protocol import usual_precision
    from svgan.reports.evaluation import assess, assessment_tables, chosen
    from svgan.runs.loading import load_judged

    metrics = (options.metrics or "fvd").split(",")
    extractors: dict[Kind, Extractor] = {}
    if options.arcface:
        from svgan.metrics import arcface

        extractors["arcface"] = arcface.extractor(options.arcface, domain.device)
        metrics = list(dict.fromkeys([*metrics, "arcface"]))
    precision = options.precision or usual_precision(str(domain.device))
    protocols = chosen(options.protocol, options.clips, options.real_clips, precision)
    other = None
    if options.against:
        other, theirs = load_judged(options.against, options.domain, options.latents, None, domain.device)
        if theirs.domain.digest != domain.digest:
            raise UserError(
                f"--against {options.against}: of domain {theirs.domain.digest}, {options.checkpoint} is of another"
            )
    assessment = assess(
        sampler,
        other,
        domain,
        latents,
        protocols,
        metrics,
        seed=options.seed,
        frames=frames,
        progress=progress,
        extractors=extractors,
    )
    for part in assessment_tables(assessment):
        console.print(part)
    return assessment | ({"against_checkpoint": str(options.against)} if options.against else {})


def judge_domain(
    options: argparse.Namespace, device: torch.device, progress: Progress, console: Console
) -> dict[str, Any]:
    """Measure how well a domain reconstructs footage that it was not trained on: every fifth of the last tenth of the
    frames.

    Only some of the frames are in memory at a time.
    """
    from rich.table import Table

    from svgan.faces.original_frames import crop_size
    from svgan.images.domain import Domain
    from svgan.metrics.assess import Figure
    from svgan.metrics.domain_report import measure_footage
    from svgan.metrics.identity import FaceReader
    from svgan.reports.evaluation import format_figure, format_interval

    domain = Domain.load(options.domain, device)
    domain.check_embeds()
    if len(options.footage) != 1:
        raise UserError("--footage: one video at a time for a domain's reconstructions")
    video = options.footage[0]
    found, _, _ = measure_footage(domain, video, crop_size(domain), FaceReader(), progress=progress)
    figures = {name: Figure(one.value, one.low, one.high).to_json() for name, one in found.intervals().items()}
    frames = len(found.error)
    table = Table(f"reconstruction of {frames} frames", "value", "95 % interval", box=None, pad_edge=False)
    for name, one in figures.items():
        table.add_row(name, format_figure(one["value"]), format_interval(one["low"], one["high"]))
    console.print(table)
    return {"domain": domain.digest, "footage": str(video), "frames": frames, "figures": figures}
