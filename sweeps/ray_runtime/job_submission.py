"""On a cluster's head, a study submits itself as a Ray Job and follows it.

A job outlives the terminal, and Ray sends its package to every worker, also to one that joins later. The package is the
one last synced to SVGAN_REPO, by `ray up` or `make submit`; `ray submit` itself sends only the study's file.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from svgan.errors import UserError, one_line
from svgan.termination import TERMINATED, exit_code
from sweeps.ray_runtime import internals
from sweeps.storage import provenance
from sweeps.storage.environment import CLUSTER, COMMIT, PACKAGE, REPO, VARIABLES, on_cluster, yaml

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

ROOMS = ("svgan", "sweeps")
JOB = "SVGAN_JOB"  # set in the environment of a job that svgan submitted
# How long the head's dashboard may be away before its job is no longer followed: a restart of it takes seconds, that of
# a head some minutes. The job goes on anyway.
DASHBOARD_SECONDS, DASHBOARD_PAUSE_SECONDS = 300.0, 1.0
AGENT_SECONDS = 120.0  # that a head just started may be without the agent that runs its jobs: 10 to 60 s on a busy one
AGENT_PAUSE_SECONDS = 0.2  # Ray itself waits 10 s before it answers
NO_AGENT = "No available agent"
# From the SIGTERM of `ray job stop` to SIGKILL: trials keep their state within 30, Ray's own 3 are too few. Ray's
# supervisor of the job reads the variable; it has the job's environment.
JOB_STOP_SECONDS, STOP_WAIT = 120, "RAY_JOB_STOP_WAIT_TIME_S"
AGENT_LOG = "/tmp/ray/session_latest/logs/dashboard_agent.log"


def needed() -> bool:
    """Whether this is a cluster's head, outside any Ray Job."""
    return on_cluster() and JOB not in os.environ and not internals.inside_a_job()


class Package(NamedTuple):
    """A copy of the synced package. script: the study's file in it, relative; commit: None if unknown."""

    folder: Path
    script: str
    digest: str
    commit: str | None

    def __str__(self) -> str:
        return f"package {self.digest}, {f'commit {self.commit}' if self.commit else 'of no known commit'}"


def package(script: Path, into: Path) -> Package:
    """Copy the package that the script belongs to.

    Raises UserError if it does not exist, has another script, or has another digest than SVGAN_PACKAGE, which `make
    submit` sets.
    """
    repo = Path(os.environ.get(REPO) or "~/svgan-repo").expanduser()
    missing = [room for room in ROOMS if not (repo / room).is_dir()]
    if missing:
        raise UserError(f"{REPO} {repo}: no {missing[0]}/ in it; sync the repository with `ray up` or `make submit`")
    own = repo / "sweeps" / script.name
    if not own.exists() or own.read_bytes() != script.read_bytes():
        what = "differs from the one in" if own.exists() else "is not in"
        raise UserError(
            f"{script.name}: {what} the package synced to {repo}, which the job would run; sync it with "
            "`make submit` or `ray rsync-up`, then submit again"
        )
    for room in ROOMS:
        shutil.copytree(repo / room, into / room, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    digest = provenance.package_digest(into / "svgan", into / "sweeps")
    if (meant := os.environ.get(PACKAGE)) and meant != digest:
        clean = on_head(shlex.join(["rm", "-r", *(str(repo / room) for room in ROOMS)]))
        raise UserError(
            f"{repo}: its package is {digest}, yours is {meant}; syncing deletes nothing, so a file that you removed "
            f"is still there: {clean}, then submit again"
        )
    return Package(into, f"sweeps/{script.name}", digest, provenance.git_commit(repo))


def entrypoint(script: str, arguments: Sequence[str]) -> str:
    """The job's shell command, with every argument quoted."""
    return shlex.join([sys.executable, script, *arguments])


def passed_on(commit: str | None) -> dict[str, str]:
    """Variables for job and workers, beside those of the nodes: those set here, none of them secret."""
    names = (CLUSTER, STOP_WAIT, *(variable.name for variable in VARIABLES.values()))
    told = {STOP_WAIT: str(JOB_STOP_SECONDS)} | {name: os.environ[name] for name in names if os.environ.get(name)}
    return told | {JOB: "1"} | ({COMMIT: commit} if commit else {})


def submit(script: Path, arguments: Sequence[str], name: str, *, study: bool = True) -> int:
    """Submit a job and follow it; return its exit code.

    name: of the study, or (study=False) of a command that may be killed. Ctrl-C or a lost connection ends only the
    following. Raises UserError if the job cannot be submitted.
    """
    with tempfile.TemporaryDirectory(prefix="svgan-package-") as folder:
        made = package(script, Path(folder))
        client, job = _submitted(made, arguments, name)
    print(f"{name}: submitted as job {job} ({made})")
    print(f"it goes on without this terminal; see it again with: {on_head(f'ray job logs -f {job}')}")
    stop = f"python -m sweeps stop {name}" if study else f"ray job stop {job}"
    print(f"stop it with: {on_head(stop)}", flush=True)
    try:
        return asyncio.run(follow(client, job))
    except KeyboardInterrupt as error:
        print(f"\nno longer followed; job {job} goes on", file=sys.stderr)
        return exit_code(error)


def on_head(command: str) -> str:
    """The command that runs this one on the head from the user's own machine."""
    return f"ray exec {yaml()} {shlex.quote(command)}"


def _submitted(made: Package, arguments: Sequence[str], name: str) -> tuple[JobSubmissionClient, str]:
    from ray.job_submission import JobSubmissionClient

    told = {"study": name, "package": made.digest} | ({"commit": made.commit} if made.commit else {})
    submission_id = f"{name}-{uuid.uuid4().hex[:6]}"
    begun, waiting = time.monotonic(), False
    while True:
        try:
            client = JobSubmissionClient()
            job = client.submit_job(
                entrypoint=entrypoint(made.script, arguments),
                submission_id=submission_id,
                runtime_env={"working_dir": str(made.folder), "env_vars": passed_on(made.commit)},
                metadata=told,
            )
            return client, job
        except (RuntimeError, ConnectionError, OSError, ValueError) as error:
            if NO_AGENT not in str(error):
                remedy = "is Ray running here with its dashboard, and RAY_AUTH_MODE as the cluster's?"
            elif time.monotonic() - begun > AGENT_SECONDS:
                remedy = (
                    f"its port may be taken, by another Ray on this host for one: see {AGENT_LOG}, and start Ray with "
                    "--dashboard-agent-listen-port=0"
                )
            else:
                remedy = None
            if remedy:
                raise UserError(f"the job cannot be submitted ({one_line(error, 300)}); {remedy}") from None
        if not waiting:
            print("waiting for the head's job agent, which starts after Ray does", flush=True)
        waiting = True
        time.sleep(AGENT_PAUSE_SECONDS)


async def follow(client: JobSubmissionClient, job: str) -> int:
    """Print the job's log as it grows, until it has ended; return its exit code.

    If the dashboard cannot be reached, this retries for DASHBOARD_SECONDS. The dashboard then sends the log from its
    beginning; lines already printed are skipped.
    """
    shown, away_since = 0, None
    while True:
        try:
            position = 0
            async for text in client.tail_job_logs(job):
                position += len(text)
                if position > shown:
                    print(text[max(0, len(text) - (position - shown)) :], end="", flush=True)
                    shown = position
                away_since = None
            ended = client.get_job_info(job)
            if ended.status.is_terminal():
                return _code(ended)
        except (OSError, RuntimeError) as error:  # aiohttp's and requests' errors are OSErrors
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > DASHBOARD_SECONDS:
                raise UserError(
                    f"job {job}: the dashboard has been away for {DASHBOARD_SECONDS:.0f} s ({one_line(error, 150)}); "
                    f"the job may go on, see: {on_head(f'ray job status {job}')}"
                ) from None
        await asyncio.sleep(DASHBOARD_PAUSE_SECONDS)


def _code(ended: JobDetails) -> int:
    """The exit code of an ended job: its process's own, or one for a job without."""
    from ray.job_submission import JobStatus

    if ended.status == JobStatus.SUCCEEDED:
        return 0
    if ended.status == JobStatus.STOPPED:
        print("the job was stopped", file=sys.stderr)
        return TERMINATED
    if ended.driver_exit_code is None:
        print(f"the job failed: {one_line(ended.message, 500)}", file=sys.stderr)
    code = ended.driver_exit_code or 1
    return code if code > 0 else 128 - code
