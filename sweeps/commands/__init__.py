"""The commands of `python -m sweeps`, one file each.

A command is a module with `HELP` (one line for the list), `ABOUT` (a text with an example and what to expect),
`flags(parser)`, and `run(asked) -> exit code or None`. Commands on studies add the flags of `find_study.add_flags`.
Each command stands in COMMANDS and in tests/sweeps/commands/test_commands.py. Heavy imports stand inside `run`, so that
`--help` is quick.
"""

from __future__ import annotations

from svgan.commands import Command
from sweeps.commands import check, compare, domain, embed, evaluate, export, gc, promote, reproduce, status, stop, sync

COMMANDS: dict[str, Command] = {
    "status": status,
    "stop": stop,
    "gc": gc,
    "export": export,
    "compare": compare,
    "reproduce": reproduce,
    "evaluate": evaluate,
    "sync": sync,
    "check": check,
    "promote": promote,
    "domain": domain,
    "embed": embed,
}
