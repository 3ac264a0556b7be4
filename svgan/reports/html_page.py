"""A model's report page: figures with protocols and intervals, clips beside the footage's, plots of its motion.

It is one HTML file with its pictures inside: nothing is fetched, and no script runs.

Axes: n clip, T frame, L W+ layer, D width of W, R pixels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from svgan.errors import UserError
from svgan.io.atomic import write_whole
from svgan.io.video_writer import contact_sheet, enlarge, evenly
from svgan.metrics.fvd import Progress, silent
from svgan.metrics.long_clips import LongClips, spaced_windows
from svgan.metrics.loops import LoopJudge
from svgan.metrics.names import (
    ACD,
    ARCFACE_WITHIN,
    LOOPS_NORM_DRIFT,
    LOOPS_PHI,
    LOOPS_RECURRENCE,
    LOOPS_REPEAT,
    LOOPS_SPECTRUM,
    LOOPS_SPEED,
    LOOPS_STILL,
)
from svgan.reports import plots
from svgan.reports.evaluation import format_figure, format_interval
from svgan.runs.training import LARGE

if TYPE_CHECKING:
    from svgan.images.domain import Domain
    from svgan.latents.manifest import Latents
    from svgan.sampling.sampler import Sampler

SIDE_BY_SIDE, SECONDS, SHEET = 4, 5.0, 10  # clips of either side, how long, pictures of a strip
SLOW_CLIPS, SLOW_FRAMES = 2, 25  # where a CPU renders seconds a frame
LONG_SECONDS = 40.0
MOVING = "webp"
ENLARGED = 128  # pixels that a smaller picture is enlarged to
MEANINGS = {  # of a figure by the beginning of its name, the first that fits
    "fvd": "Fréchet distance of I3D's features of clips; the lower the better",
    "kvd": "kernel distance of the same features, unbiased; the lower the better",
    "fid": "Fréchet distance of Inception's features of pictures; the lower the better",
    "kid": "kernel distance of the same features, unbiased; the lower the better",
    ARCFACE_WITHIN: "cosine of the descriptors of a clip's frames with one another (ArcFace); as the footage",
    "arcface": "cosine of a clip's descriptors with the footage's subject (ArcFace); as the footage",
    ACD: "how far a clip's faces are from one another (dlib's descriptor); as the footage",
    "identity": "how far faces are from the footage's subject; one person is below 0.6",
    "faces": "share of the frames in which a face is found",
    LOOPS_REPEAT: "the autocorrelation's peak beyond one second; 1 is a loop",
    LOOPS_RECURRENCE: "share of frames that come back to an earlier code; as the footage",
    LOOPS_STILL: "share of frames that stand still; as the footage",
    LOOPS_NORM_DRIFT: "how much further from the mean a clip ends than it begins; near 0",
    LOOPS_SPEED: "how far speeds are from the footage's (W1, in its median); the lower the better",
    LOOPS_SPECTRUM: "how far the spectrum of motion is from the footage's (W1, Hz); the lower the better",
    LOOPS_PHI: "GAP's angle: near 0 where a clip follows from its first frame, pi/4 or more where it does not; "
    "of the generator's noise, so that footage has none",
}
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 1080px; margin: 2em auto;
  padding: 0 1em }
h1 { font-size: 1.6em; margin-bottom: .2em; overflow-wrap: anywhere } h2 { font-size: 1.2em; margin: 2em 0 .5em }
table { border-collapse: collapse } th, td { padding: .3em .9em .3em 0; text-align: left; vertical-align: top }
thead th { border-bottom: 1px solid #999; font-weight: 600 } tbody tr + tr td { border-top: 1px solid #eee }
.number { text-align: right; font-variant-numeric: tabular-nums } td.number { white-space: nowrap }
.quiet { color: #666 }
.warnings { background: #fff6e0; border-left: 4px solid #d99a00; padding: .5em 1em; margin: 1em 0 }
.facts td { padding: .1em 1.5em .1em 0; overflow-wrap: anywhere } code { font-size: .92em }
img { width: 100%; display: block } img.webp { max-width: 800px }
figure { margin: 0 0 1.2em } figcaption { color: #444; margin-bottom: .3em }
"""


def write_page(path: Path, page: str) -> None:
    """Write the page atomically. Raises UserError if it cannot be written."""
    try:
        with write_whole(path) as aside:
            aside.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--report {path}: cannot write ({error.strerror}); give another place") from error


def model_page(
    title: str,
    about: Mapping[str, Any],
    assessment: Mapping[str, Any],
    sampler: Sampler,
    domain: Domain,
    latents: Latents,
    *,
    seed: int = 0,
    frames: np.ndarray | None = None,
    progress: Progress = silent,
) -> str:
    """The page of a model, from the result of `svgan.reports.evaluation.assess`.

    about: further facts, by name. frames: uint8 [N, R, R, 3], the recorded footage in the order of the codes, shown if
    given; otherwise the page shows what the codes render.
    """
    parts = [f"<h1>{escape(title)}</h1>", _facts(about)]
    if assessment["warnings"]:
        lines = "".join(f"<div>{escape(line)}</div>" for line in assessment["warnings"])
        parts.append(f'<div class="warnings">{lines}</div>')
    parts += [_figures(assessment), _comparison(assessment.get("against", {}))]
    parts += _clips(sampler, domain, latents, seed, frames, progress)
    parts += _motion(sampler, domain, latents, seed, progress)
    parts.append(_protocols(assessment["protocols"]))
    body = "\n".join(part for part in parts if part)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _facts(about: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><td class="quiet">{escape(name)}</td><td>{escape(str(value))}</td></tr>' for name, value in about.items()
    )
    return f'<table class="facts">{rows}</table>'


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    """A table of HTML cells; the columns in `numbers` are aligned right."""

    def cell(tag: str, at: int, text: str) -> str:
        return f'<{tag} class="number">{text}</{tag}>' if at in numbers else f"<{tag}>{text}</{tag}>"

    head = "".join(cell("th", at, text) for at, text in enumerate(headings))
    lines = ("".join(cell("td", at, text) for at, text in enumerate(row)) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _figures(assessment: Mapping[str, Any]) -> str:
    rows = []
    for name, one in assessment["figures"].items():
        meaning = next((text for begin, text in MEANINGS.items() if name.startswith(begin)), "")
        if name.endswith("_original"):
            meaning += "; against the recorded frames"
        label = f'<b>{escape(name)}</b><br><span class="quiet">{escape(meaning)}</span>'
        values = (
            format_figure(one["value"]),
            format_interval(one["low"], one["high"]),
            format_figure(one["endless"]),
            format_figure(one["footage"]),
        )
        rows.append([label, *values, protocol_of(name, assessment["protocols"])])
    headings = ("figure", "value", "95 % interval", "for endless clips", "the footage's own", "protocol")
    return f"<h2>Figures</h2>{_table(headings, rows, (1, 2, 3, 4))}"


def protocol_of(name: str, protocols: Mapping[str, Any]) -> str:
    """The hash of the protocol that a figure belongs to; '' if the figure is the same under all."""
    for protocol, fields in protocols.items():
        ending = f"_{protocol.removeprefix('svg-')}" if protocol.startswith("svg-") else f"/{protocol}"
        if name.removesuffix("_original").endswith(ending):
            return f"{escape(protocol)}<br><code>{escape(fields['hash'])}</code>"
    return ""


def _comparison(against: Mapping[str, Any]) -> str:
    if not against:
        return ""
    rows = [
        [
            escape(name),
            format_figure(one["difference"]),
            format_interval(one["low"], one["high"]),
            escape(one["better"] or "undecided"),
            f"{one['sure']:.1%}",
        ]
        for name, one in against.items()
    ]
    headings = ("this less the other", "difference", "95 % interval", "better", "sure")
    return f"<h2>Against another model</h2>{_table(headings, rows, (1, 2, 4))}"


def _clips(
    sampler: Sampler, domain: Domain, latents: Latents, seed: int, frames: np.ndarray | None, progress: Progress
) -> list[str]:
    """Clips that move, side by side; strips of their frames; and one long clip."""
    fps = latents.manifest.fps
    slow = torch.device(domain.device).type == "cpu" and domain.config.resolution > LARGE
    count = SLOW_CLIPS if slow else SIDE_BY_SIDE
    length = min(SLOW_FRAMES if slow else round(SECONDS * fps), latents.longest_run)
    whole_length = max(length, round(LONG_SECONDS * fps))
    codes = torch.cat([piece[:count].cpu() for piece in sampler.stream(count, whole_length, seed)], 1)
    starts = spaced_windows(latents, length, count)
    real, ours = [], []
    for done in range(count):
        progress("clips of the page", done, count)
        ours.append(sampler.render(codes[done, :length], domain))
        rows = slice(starts[done], starts[done] + length)
        real.append(domain.render(latents.codes[rows]) if frames is None else frames[rows])
    name = "the footage, its codes rendered again" if frames is None else "the footage, as recorded"
    moving = [
        side_by_side([ours[k][t] for k in range(count)], [real[k][t] for k in range(count)]) for t in range(length)
    ]
    longer = sampler.render(evenly(codes[0].numpy(), SHEET), domain)
    seconds = f"{length / fps:.3g} s"
    return [
        "<h2>Clips</h2>",
        _image(
            animated(moving, fps), f"Above: generated, seed {seed}. Below: {name}. {seconds}, again and again.", MOVING
        ),
        _image(png(contact_sheet(ours, SHEET)), f"Generated: {SHEET} frames of each clip's {seconds}"),
        _image(png(contact_sheet(real, SHEET)), f"{name[0].upper()}{name[1:]}: the same of each window"),
        _image(png(contact_sheet(longer, SHEET)), f"Generated, the first clip over {whole_length / fps:.3g} s"),
    ]


def _motion(sampler: Sampler, domain: Domain, latents: Latents, seed: int, progress: Progress) -> list[str]:
    """Plots of long clips' codes, or a line that says why there are none."""
    try:
        long = LongClips(latents)
    except UserError as error:
        return ["<h2>Motion</h2>", f"<p>{escape(str(error))}</p>"]
    judge, clips = LoopJudge(long.footage, latents.manifest.fps), long.generate(sampler, domain, seed, progress)
    words = (
        f"{clips.shape[0]} clips of {clips.shape[1]} frames on either side, in the footage's first principal components"
    )
    return [
        "<h2>Motion</h2>",
        _image(
            plots.trajectories(clips, long.footage, judge.fps),
            "Seconds of codes in the plane of the first two components; grey: all of the footage, dot: the first frame",
        ),
        _image(plots.motion(clips, judge), f"{words}; lines are medians over clips, bands hold 80 % of them"),
    ]


def _protocols(protocols: Mapping[str, Any]) -> str:
    fields = list(dict.fromkeys(key for one in protocols.values() for key in one if key != "name"))
    fields = ["hash", *(key for key in fields if key != "hash")]
    rows = [[escape(key), *(escape(str(one.get(key, "-"))) for one in protocols.values())] for key in fields]
    note = '<p class="quiet">Figures compare only under one hash. What the fields mean: docs/judging.md.</p>'
    return f"<h2>Protocols</h2>{note}{_table(['', *map(escape, protocols)], rows, ())}"


def _image(data: bytes, caption: str, kind: str = "png") -> str:
    text = base64.b64encode(data).decode()
    source = f"data:image/{kind};base64,{text}"
    words = escape(caption)
    return f'<figure><figcaption>{words}</figcaption><img class="{kind}" src="{source}" alt="{words}"></figure>'


def png(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def side_by_side(above: Sequence[np.ndarray], below: Sequence[np.ndarray], line: int = 4) -> np.ndarray:
    """Two rows of pictures [R, R, 3], small ones enlarged, with white between them."""
    rows = [np.concatenate([_edged(enlarge(one, ENLARGED), line) for one in side], 1) for side in (above, below)]
    return np.concatenate(rows)[:-line, :-line]


def _edged(one: np.ndarray, line: int) -> np.ndarray:
    return np.pad(one, ((0, line), (0, line), (0, 0)), constant_values=255)


def animated(frames: Sequence[np.ndarray], fps: float) -> bytes:
    """An endless WebP of frames [H, W, 3]."""
    first, *rest = map(Image.fromarray, frames)
    out = io.BytesIO()
    first.save(out, "WEBP", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, quality=75, method=2)
    return out.getvalue()
