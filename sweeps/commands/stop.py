"""`python -m sweeps stop NAME`."""

from __future__ import annotations

import argparse
import time

from svgan.errors import UserError
from sweeps.commands import find_study
from sweeps.driver.flags import resume_command

HELP = "stop a running study without losing anything"
ABOUT = """Stop a study so that nothing is lost.

  python -m sweeps stop gap-1                 wait until it has ended, then print how to continue
  python -m sweeps stop gap-1 --no-wait       request the stop, and return at once

The driver starts no more trials. Running trials save their whole state at the step they are at, which takes seconds,
and the driver ends. A trial that is measuring FVD measures it again after a resume. Ctrl-C on the driver's terminal
and SIGTERM do the same. Run this command on the driver's machine.
"""
LOOK_SECONDS = 0.5  # between two looks whether the driver has ended


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the study's name")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until it has ended")
    find_study.add_flags(parser)


def run(asked: argparse.Namespace) -> None:
    from rich.console import Console

    from sweeps.storage import driver_lock, stop_request

    plan = find_study.folder_plan(asked, asked.name)
    if not driver_lock.is_held(plan):
        raise UserError(f"{plan.name}: no driver runs it on this machine; go on with: {resume_command(plan)}")
    stop_request.request(plan)
    if asked.no_wait:
        print(f"{plan.name}: asked to stop; afterwards go on with: {resume_command(plan)}")
        return
    console, started = Console(highlight=False), time.monotonic()
    with console.status(f"{plan.name}: waiting for {driver_lock.holder(plan)}, whose trials keep their state first"):
        while driver_lock.is_held(plan):
            time.sleep(LOOK_SECONDS)
    print(f"{plan.name}: stopped after {time.monotonic() - started:.0f} s; go on with: {resume_command(plan)}")
