"""Run a study, from flags to a promoted model. Everything that can be refused is refused before Ray starts."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from svgan import termination
from svgan.errors import UserError
from svgan.io import storage
from sweeps.driver.definition import Study
from sweeps.driver.flags import Flags, resume_command
from sweeps.driver.new_plan import fresh, resumed
from sweeps.driver.node_check import check_nodes
from sweeps.ray_runtime import job_submission, log_capture
from sweeps.ray_runtime.session import cluster_joined, ray_started
from sweeps.record.log import Superseded
from sweeps.storage import driver_lease, driver_lock, environment, life, stop_request
from sweeps.storage.paths import fresh_name
from sweeps.storage.plan import PLAN_FILE, Plan
from sweeps.storage.tag_names import ROLE, SWEEP
from sweeps.storage.usage import BudgetSpent

if TYPE_CHECKING:
    from sweeps.promotion.registry import Promotion
    from sweeps.trial.trainer import Loop

LOG = logging.getLogger(__name__)


def main(study: Study, argv: Sequence[str] | None = None, *, loop: Loop | None = None) -> None:
    """The entry of a study file: run it, print errors as one line, and exit.

    Exit code 2: bad input; 3: the budget is used up; 130: interrupted by Ctrl-C; 143: by SIGTERM. loop: as in `run`. On
    a cluster's head the study runs as a Ray Job, and the exit code is the job's.
    """
    doc = sys.modules["__main__"].__doc__ or ""
    try:
        with termination.heeded():
            prepared()
            if job_submission.needed():
                sys.exit(submitted(study, list(sys.argv[1:] if argv is None else argv), doc))
            environment.settle()
            run(study, argv, doc=doc, loop=loop)
    except UserError as error:
        print(f"svgan: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        print(f"svgan: {termination.described(error)}", file=sys.stderr)
        sys.exit(termination.exit_code(error))
    except BudgetSpent as error:
        print(f"svgan: {error}", file=sys.stderr)
        sys.exit(3)


def prepared() -> None:
    """Set the environment that Ray, Tune and MLflow read when they are imported."""
    log_capture.settings()
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # afterwards it would come too late: docs/traps.md


def submitted(study: Study, arguments: list[str], doc: str) -> int:
    """Check the flags, choose the name, run the study as a Ray Job, and return the job's exit code."""
    asked = Flags.parse(study, arguments, doc)
    script, name = Path(sys.modules["__main__"].__file__ or ""), asked.resume or asked.name
    if not name:
        name = fresh_name(study.name)
        arguments = [*arguments, "--name", name]
    return job_submission.submit(script, arguments, name)


def run(
    study: Study, argv: Sequence[str] | None = None, *, doc: str = "", loop: Loop | None = None
) -> Promotion | None:
    """Run or resume a study; returns what was promoted. `loop` replaces the workers' training loop (tests)."""
    prepared()
    asked = Flags.parse(study, argv, doc)
    with cluster_joined() as address:
        if address:
            check_nodes(address)
        plan = resumed(study, asked) if asked.resume else fresh(study, asked)
        study = study.along(plan.search.grid) if plan.search.grid else study
        if not asked.take_over:
            driver_lease.check(plan)
        return _run(study.first(plan.search.controls), plan, loop)


def _run(study: Study, plan: Plan, loop: Loop | None) -> Promotion | None:
    from sweeps.driver import forecast, on_end
    from sweeps.driver.budget import BudgetCallback
    from sweeps.driver.conclude import conclude
    from sweeps.driver.preflight import announce, preflight, prepare
    from sweeps.driver.search_loop import search
    from sweeps.driver.step_timing import lengths
    from sweeps.ray_runtime import resources
    from sweeps.search import grid
    from sweeps.tracking.client import Tracking
    from sweeps.tracking.sender import failures

    began = time.monotonic()
    found = preflight(study, plan)
    prepare(plan, found.material)
    if plan.search.seconds and not plan.search.lengths:
        print("timing iterations of each trial's own ...", flush=True)
        plan = plan.with_fields(lengths=lengths(plan, found.runs[: plan.search.controls]))
    tracking = Tracking(plan)
    if not Path(plan.output.folder, PLAN_FILE).exists() and tracking.find(**{SWEEP: plan.name, ROLE: "study"}):
        raise UserError(
            f"--name {plan.name}: {plan.output.tracking} has a study of that name, begun elsewhere; choose another "
            "name, or resume it where its study.json is"
        )
    pace = forecast.pace(plan, found, tracking)
    forecast.check_patience(plan, pace)
    log_file = Path(plan.output.folder, "sweep.log")
    with (
        on_end.afterwards(plan) as ending,
        driver_lock.hold(plan),
        driver_lease.hold(plan) as lease,
        log_capture.quiet(log_file) as log,
    ):
        stop_request.clear(plan)
        plan.save()  # first, so that a study that MLflow has can be resumed
        parent = tracking.parent()
        tracking.client.log_artifact(parent, str(Path(plan.output.folder, PLAN_FILE)))
        LOG.info("preflight took %.2f s", found.seconds)
        print(announce(plan, found, forecast.describe(plan, pace), log), flush=True)
        if plan.search.grid:
            print(grid.describe(plan.search.grid), flush=True)
        ending.budget = budget = BudgetCallback(plan, found.used, began)
        status: str | None = "FAILED"
        try:
            slots = {resources.SLOT: plan.compute.concurrency}
            with (
                ray_started(resources=slots, object_store_memory=256 * 2**20) as local,
                stop_request.interruptible(plan),
            ):
                search(study, plan, tracking, loop, local, budget, lease)
            ending.promotion = conclude(plan)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            print(f"\nstopped; go on with: {resume_command(plan)}", file=sys.stderr)
            raise
        except BudgetSpent:
            status = "KILLED"
            raise
        except Superseded:
            status = None
            raise
        finally:
            shutil.rmtree(plan.scratch, ignore_errors=True)
            if status is not None:  # else storage and runs are another driver's
                with contextlib.suppress(*storage.ERRORS):
                    life.clear(plan)
                with contextlib.suppress(*failures()):
                    tracking.close(status, budget.figures())
    return ending.promotion
