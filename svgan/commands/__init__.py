"""The commands of `svgan`, one file each.

A command is a module with `HELP` (one line for the list), `ABOUT` (a text with an example and its cost),
`flags(parser)`, and `run(options) -> exit code or None`. Each command stands in COMMANDS and in
tests/commands/test_cli.py. Heavy imports stand inside `run`, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
from typing import Protocol

from svgan.commands import assets, domain, embed, evaluate, import_, predict, sample, train


class Command(Protocol):
    HELP: str
    ABOUT: str

    def flags(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace) -> int | None: ...


COMMANDS: dict[str, Command] = {
    "assets": assets,
    "embed": embed,
    "train": train,
    "sample": sample,
    "predict": predict,
    "evaluate": evaluate,
    "domain": domain,
    "import": import_,
}
