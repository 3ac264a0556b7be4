"""Measure one model, or compare two, under protocols, with intervals: tables for people and JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.io.atomic import write_whole
from svgan.metrics.names import ARCFACE_WITHIN, LOOPS_NORM_DRIFT, LOOPS_PHI, LOOPS_RECURRENCE, LOOPS_REPEAT, LOOPS_STILL

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from svgan.images.domain import Domain
    from svgan.latents.manifest import Latents
    from svgan.metrics.features import Extractor, Kind, Look
    from svgan.metrics.fvd import Progress
    from svgan.metrics.i3d import Precision
    from svgan.metrics.intervals import Comparison
    from svgan.metrics.protocol import Protocol
    from svgan.sampling.sampler import Sampler

FEW = 1000  # clips below which FVD's bias is worth a word
WITHOUT_PROTOCOL = ("identity", "arcface", "loops")  # the same whatever the protocol
# Figures for which lower is not better: the goal is the footage's value.
NO_ORDER = (
    "faces",
    "arcface",
    ARCFACE_WITHIN,
    LOOPS_REPEAT,
    LOOPS_RECURRENCE,
    LOOPS_STILL,
    LOOPS_NORM_DRIFT,
    LOOPS_PHI,
)


def figures_table(figures: dict[str, Any], clips: int, real_clips: int) -> Table:
    """A table with rows short and long, one column per reference, and the hash of the protocol behind each row.

    figures: numbers by name, protocols' hashes, and `intervals`, [low, high] by name.
    """
    from rich.table import Table

    note = f"{clips} generated and {real_clips} real clips, 95 % intervals"
    if min(clips, real_clips) < FEW:
        note += ": biased upwards, compare only under the same protocol"
    table = Table("FVD", "against W+", "against original", "protocol", caption=note, box=None, pad_edge=False)
    for kind in ("short", "long"):
        cells = ["-", "-"]
        for column, name in enumerate((f"fvd_{kind}", f"fvd_{kind}_original")):
            if name in figures:
                low, high = figures["intervals"][name]
                cells[column] = f"{figures[name]:.1f} ({low:.1f} to {high:.1f})"
        table.add_row(kind, *cells, figures[f"protocol_{kind}"])
    return table


def chosen(names: str, clips: int | None, real_clips: int | None, precision: Precision) -> list[Protocol]:
    """The protocols of these names, separated by commas, with the counts that are given. Raises UserError."""
    from svgan.metrics.protocol import named

    counts: dict[str, Any] = {k: v for k, v in (("clips", clips), ("real_clips", real_clips)) if v is not None}
    return [replace(named(name), precision=precision, **counts) for name in dict.fromkeys(names.split(","))]


def assess(
    sampler: Sampler,
    other: Sampler | None,
    domain: Domain,
    latents: Latents,
    protocols: Sequence[Protocol],
    metrics: Sequence[str],
    *,
    seed: int,
    progress: Progress,
    frames: np.ndarray | None = None,
    strict: bool = True,
    spread: Callable[[Protocol], Look] | None = None,
    extractors: Mapping[Kind, Extractor] | None = None,
) -> dict[str, Any]:
    """Measure all figures of a model under each protocol, and compare it with another.

    Returns JSON: protocols (each whole, with its hash), figures by name, against by name if there is another model,
    warnings. strict: refuse footage with too few real clips, as for a protocol asked for by name. spread: extracts the
    features of clips of a protocol in place of this process. extractors: networks that the user brings. Raises
    UserError.
    """
    from svgan.metrics.assess import Judge, compare

    assessment: dict[str, Any] = {"protocols": {}, "figures": {}, "warnings": []}
    if other is not None:
        assessment["against"] = {}
    for number, protocol in enumerate(protocols):
        wanted = [name for name in metrics if number == 0 or name not in WITHOUT_PROTOCOL]
        if not wanted:
            break
        judge = Judge(
            protocol,
            domain,
            latents,
            wanted,
            seed=seed,
            frames=frames,
            strict=strict,
            extractors=extractors,
            spread=spread,
            progress=progress,
        )
        measured = judge.measure(sampler)
        assessment["protocols"][protocol.name] = {**protocol.to_json(), "hash": protocol.hash}
        assessment["figures"] |= {k: v.to_json() for k, v in measured.figures(progress=progress).items()}
        assessment["warnings"] += [f"{protocol.name}: {line}" for line in judge.warnings]
        if other is not None:
            found = compare(measured, judge.measure(other))
            assessment["against"] |= {
                k: asdict(v) | {"better": better(v)} for k, v in found.items() if k not in NO_ORDER
            }
    return assessment


def better(found: Comparison) -> str | None:
    """'this' or 'other'; None if the difference's interval holds zero or does not exist, because no clip has the
    figure.
    """
    if not math.isfinite(found.low + found.high) or found.low <= 0 <= found.high:
        return None
    return "this" if found.first_is_better else "other"


def assessment_tables(assessment: dict[str, Any]) -> list[Table | str]:
    """The result of `assess` for printing: figures, comparison, protocols' hashes and warnings."""
    from rich.table import Table

    table = Table("figure", box=None, pad_edge=False)
    for heading in ("value", "95 % interval", "for endless\nclips", "the footage's\nown"):
        table.add_column(heading, justify="right")
    for name, one in assessment["figures"].items():
        table.add_row(
            name,
            format_figure(one["value"]),
            format_interval(one["low"], one["high"]),
            format_figure(one["endless"]),
            format_figure(one["footage"]),
        )
    hashes = ", ".join(f"{name} {one['hash']}" for name, one in assessment["protocols"].items())
    notes = [f"protocol {hashes}", *assessment["warnings"]]
    if "against" not in assessment:
        return [table, *notes]
    versus = Table("this less the other", box=None, pad_edge=False)
    for heading in ("difference", "95 % interval", "better", "sure"):
        versus.add_column(heading, justify="right")
    for name, one in assessment["against"].items():
        around = format_interval(one["low"], one["high"])
        versus.add_row(
            name, format_figure(one["difference"]), around, one["better"] or "undecided", f"{one['sure']:.1%}"
        )
    return [table, versus, *notes]


def format_figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def format_interval(low: float | None, high: float | None) -> str:
    return "-" if low is None else f"{format_figure(low)} to {format_figure(high)}"


def as_json(value: Any, indent: int | None = None) -> str:
    """A value for JSON, which has no NaN: a figure that could not be measured is null."""

    def known(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: known(one) for name, one in part.items()}
        if isinstance(part, list | tuple):
            return [known(one) for one in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    return json.dumps(known(value), indent=indent, allow_nan=False)


def write_figures(figures: dict[str, Any], path: Path) -> None:
    """Write the figures as JSON, atomically."""
    try:
        with write_whole(path) as aside:
            aside.write_text(as_json(figures, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"--json {path}: cannot write ({error.strerror}); give another place") from error
