"""`python -m sweeps COMMAND`: parse the command line, call the command's file, and print errors as one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from svgan import termination
from svgan.cli import Parser
from svgan.errors import UserError
from sweeps.commands import COMMANDS
from sweeps.ray_runtime import log_capture

ABOUT = """Look at studies, steer them, and take out what they found.

  python -m sweeps status                 all studies: trials, best latent FD, best FVD
  python -m sweeps status gap-1           one study's trials, live or finished
  python -m sweeps stop gap-1             end it with nothing lost
  python -m sweeps export gap-1 --out trials.csv
  python -m sweeps compare gap-1:0 gap-1:3
  python -m sweeps evaluate gap-1:3       a logged model's figures again, with intervals
  python -m sweeps promote gap-1          its best checkpoint becomes the champion, if it beats the present one

A study is found by its name in --storage (./runs), else in MLflow; `gap` alone is the newest one whose name begins so.
Each command has a --help with an example.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code; a UserError is one line and exit code 2."""
    log_capture.settings()
    try:
        with termination.heeded():
            asked = parser().parse_args(argv)
            code = COMMANDS[asked.command].run(asked)
    except UserError as error:
        print(f"svgan: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt as error:
        print(f"svgan: {termination.described(error)}", file=sys.stderr)
        code = termination.exit_code(error)
    if code:
        sys.exit(code)


def parser() -> Parser:
    whole = Parser(prog="python -m sweeps", description=ABOUT)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        command.flags(commands.add_parser(name, help=command.HELP, description=command.ABOUT))
    return whole


if __name__ == "__main__":
    main()
