"""`svgan COMMAND`: parse the command line, call the command's file, and print errors as one line."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

import svgan.systems  # noqa: F401  (registers them)
from svgan import termination
from svgan.commands import COMMANDS
from svgan.errors import NonFiniteLoss, UserError


class Parser(argparse.ArgumentParser):
    """An argparse parser that prints errors as one line, keeps the layout of its texts, and takes no abbreviations."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def run(arguments: list[str] | None = None) -> int:
    """The command `svgan`. Exit code 0: done; 1: training diverged; 2: bad input, in one line; 130: interrupted by
    Ctrl-C; 143: by SIGTERM.
    """
    try:
        with termination.heeded():
            options = parser().parse_args(arguments)
            return COMMANDS[options.command].run(options) or 0
    except UserError as error:
        print(f"svgan: {error}", file=sys.stderr)
        return 2
    except NonFiniteLoss as error:
        print(f"svgan: stopped before the weights were touched: {error}; try a lower lr", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"svgan: {termination.described(error)}", file=sys.stderr)
        return termination.exit_code(error)


def parser() -> Parser:
    top = Parser(
        prog="svgan",
        description="Temporal GANs on sequences of StyleGAN codes: embed footage, train, sample, judge.",
        epilog="From footage to a clip:\n"
        "  svgan embed me.mp4 --out latents/me\n"
        "  svgan train --latents latents/me --out runs/me\n"
        "  svgan sample runs/me --out me-again.mp4\n"
        "Without footage, leave --latents out: a talking face's codes come with the package.\n"
        "Sweeps over many runs: python sweeps/gap.py --help",
    )
    commands = top.add_subparsers(dest="command", title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.flags(commands.add_parser(name, help=command.HELP, description=command.ABOUT))
    return top


if __name__ == "__main__":
    sys.exit(run())
