"""The flag --workers: extract features on a cluster's workers, or on this machine's cores."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import sweeps
from svgan.errors import UserError

if TYPE_CHECKING:
    from svgan.images.domain import Domain
    from sweeps.parallel.feature_pool import FeaturePool
    from sweeps.storage.plan import Plan

MAIN = Path(sweeps.__file__).with_name("__main__.py")
OBJECT_STORE = 512 * 2**20


def add_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="workers of a cluster, or cores of this machine, that extract features [%(default)s: this process]",
    )


def as_job(asked: argparse.Namespace) -> bool:
    """Whether the command must submit itself as a Ray Job. Raises UserError for a count below 1."""
    from sweeps.ray_runtime import job_submission
    from sweeps.storage import environment

    if asked.workers < 1:
        raise UserError(f"--workers {asked.workers}: must be at least 1")
    if asked.workers == 1:
        return False
    if job_submission.needed():
        return True
    environment.settle()
    return False


def submitted(name: str) -> int:
    """Submit this command line as a Ray Job and return the job's exit code."""
    from sweeps.ray_runtime import job_submission

    return job_submission.submit(MAIN, sys.argv[1:], name, study=False)


@contextlib.contextmanager
def workers(asked: argparse.Namespace) -> Iterator[None]:
    """Start or join Ray if more than one worker is asked for."""
    if asked.workers == 1:
        yield
        return
    from sweeps.ray_runtime.session import cluster_joined, ray_started

    with cluster_joined(), ray_started(object_store_memory=OBJECT_STORE):
        yield


def feature_pool(asked: argparse.Namespace, plan: Plan, domain: Domain) -> FeaturePool | None:
    """The pool that extracts features in a domain; None: this process does."""
    if asked.workers == 1:
        return None
    from sweeps.parallel.feature_pool import FeaturePool

    return FeaturePool(domain, asked.workers, plan.compute.cpus_per_worker, plan.compute.gpus_per_worker)
