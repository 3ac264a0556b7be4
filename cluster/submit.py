"""Sync this repository to a cluster's head and run a study there, for `make submit`.

    make submit SCRIPT=sweeps/gap.py ARGS="--trials 40 --experiment 'my study'"
    python cluster/submit.py --cluster cluster/onprem.yaml sweeps/gap.py -- --trials 40

Unlike `ray submit`, it sends the package as it is now, keeps arguments with spaces whole, and ends with the study's own
exit code: 0, or 2 for bad input. It ends with 130 when it was interrupted, and 255 when the connection was lost; the
job goes on in both cases.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster import yaml_check
from svgan.cli import Parser
from svgan.errors import UserError, one_line
from sweeps.storage.environment import COMMIT, PACKAGE, REPO, check_passwordless
from sweeps.storage.provenance import git_commit, package_digest

ROOT = Path(__file__).resolve().parents[1]
LOST = 255  # ssh's own exit code


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        asked = parser().parse_args(arguments)
        for word in asked.arguments:
            check_passwordless("ARGS", word.rpartition("=")[2] if word.startswith("--") else word)
        script, config = check(asked.script, asked.cluster)
        sync(config)
        code = run(config, remote_command(script, asked.arguments, git_commit(ROOT)))
    except UserError as error:
        print(f"svgan: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if code == LOST:
        print(f"svgan: the connection to the head was lost or refused; a job that was submitted goes on: {see(config)}")
    return code


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="cluster/submit.py", description=__doc__)
    p.add_argument("--cluster", default="cluster/gpu.yaml", metavar="YAML", help="[%(default)s]")
    p.add_argument("script", metavar="SCRIPT", help="of this repository, such as sweeps/gap.py")
    p.add_argument("arguments", nargs="*", metavar="-- ARGUMENTS", help="of the study")
    return p


def check(script: str, cluster: str) -> tuple[str, str]:
    """The script relative to the repository, and the yaml. Raises UserError if either is missing or not ready."""
    path, config = Path(script).resolve(), Path(cluster)
    if not path.is_file() or path.parent != ROOT / "sweeps":
        raise UserError(f"SCRIPT {script}: no study of this repository; give one in {ROOT / 'sweeps'}")
    if not config.is_file():
        raise UserError(f"--cluster {cluster}: no such file; give the yaml that `ray up` was given")
    yaml_check.ready(config)
    return f"sweeps/{path.name}", str(config)


def remote_command(script: str, arguments: Sequence[str], commit: str | None) -> str:
    """The command for the head's shell; each argument arrives as it was given."""
    told = f"{PACKAGE}={package_digest(ROOT / 'svgan', ROOT / 'sweeps')} "
    told += f"{COMMIT}={shlex.quote(commit)} " if commit else ""
    return f'cd && {told}python "${{{REPO}:-$HOME/svgan-repo}}"/{shlex.join([script, *arguments])}'


def sync(config: str) -> None:
    """Send the yaml's file_mounts, this repository among them, to the head."""
    done = subprocess.run([ray(), "rsync-up", config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        said = one_line(next(filter(str.strip, reversed(done.stdout.splitlines())), ""), 300)  # an error's last line
        raise UserError(f"--cluster {config}: the repository cannot be synced ({said}); is the cluster up (`ray up`)?")


def ray() -> str:
    """The ray command of this Python's environment."""
    return str(Path(sys.executable).with_name("ray"))


def run(config: str, command: str) -> int:
    """Run a command in a login shell on the head; return its exit code.

    Ray's own commands always end with 1; the exit code stands in the error from which theirs was made.
    """
    import click
    from ray.autoscaler.sdk import run_on_cluster

    try:
        run_on_cluster(config, cmd=command)
    except click.ClickException as error:
        inner = error.__context__
        if isinstance(inner, subprocess.CalledProcessError):
            return inner.returncode
        raise UserError(f"--cluster {config}: {error.message}") from None
    return 0


def see(config: str) -> str:
    return f"ray exec {config} 'ray job list'"


if __name__ == "__main__":
    sys.exit(main())
