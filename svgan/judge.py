"""FVD figures for people and for files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from svgan.files import whole

if TYPE_CHECKING:
    from rich.table import Table

FEW = 1000  # clips below which FVD's bias is worth a word


def figures_table(figures: dict[str, Any], clips: int, real_clips: int) -> Table:
    """Rows short and long, a column per reference, and the hash of the protocol behind each row."""
    from rich.table import Table

    note = f"{clips} generated and {real_clips} real clips"
    if min(clips, real_clips) < FEW:
        note += ": biased upwards, compare only under the same protocol"
    table = Table("FVD", "against W+", "against original", "protocol", caption=note, box=None, pad_edge=False)
    for kind in ("short", "long"):
        values = [figures.get(name) for name in (f"fvd_{kind}", f"fvd_{kind}_original")]
        cells = ["-" if value is None else f"{value:.1f}" for value in values]
        table.add_row(kind, *cells, figures[f"protocol_{kind}"])
    return table


def write_figures(figures: dict[str, Any], path: Path) -> None:
    """The figures as JSON, whole or not at all."""
    try:
        with whole(path) as aside:
            aside.write_text(json.dumps(figures, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"--json {path}: cannot write ({error.strerror}); give another place") from error
