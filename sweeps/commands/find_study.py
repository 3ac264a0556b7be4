"""Find a study by its name, with the flags that its commands share."""

from __future__ import annotations

import argparse
import glob
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from svgan.errors import UserError
from svgan.io import storage
from svgan.io.storage_errors import storage_errors
from sweeps.storage import environment
from sweeps.storage.paths import absolute, default_tracking, is_remote, study_folder
from sweeps.storage.plan import PLAN_FILE, Plan
from sweeps.storage.tag_names import ROLE, SWEEP, TRIAL

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from sweeps.tracking.client import Tracking

EXPERIMENT = "svgan"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add --storage, --tracking and --experiment, which every command on studies has."""
    where = parser.add_argument_group("where studies are")
    where.add_argument(
        "--storage",
        default=environment.default("storage", "./runs"),
        metavar="URI",
        help=f"folder or URL that holds the study's folder [{_describe_default('storage', './runs')}]",
    )
    where.add_argument(
        "--tracking",
        metavar="URI",
        help=f"MLflow [the study's own, else {_describe_default('tracking', 'sqlite:///mlflow.db')}]",
    )
    where.add_argument("--experiment", metavar="NAME", help=f"MLflow experiment [the study's own or {EXPERIMENT}]")


def _describe_default(name: str, built_in: str) -> str:
    """`environment.default_text` for argparse, which formats help texts."""
    return environment.default_text(name, built_in).replace("%", "%%")


def tracking_uri(asked: argparse.Namespace) -> str:
    environment.check_passwordless("--tracking", asked.tracking or "")
    return absolute(asked.tracking) if asked.tracking else default_tracking()


def known_experiment(uri: str, name: str) -> tuple[MlflowClient, str]:
    """A client and the experiment's id. Unlike `client.open_experiment`, it creates nothing."""
    from sweeps.tracking.client import connect
    from sweeps.tracking.database_check import check_tracking

    path = uri.removeprefix("sqlite:///")
    if path != uri and not Path(path).exists():
        raise UserError(f"--tracking {uri}: no such file; run this where the study ran, or give its --tracking")
    check_tracking(uri, name)
    client = connect(uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        raise UserError(f"--experiment {name}: not in {uri}; no study has run there under that name")
    return client, found.experiment_id


def find_plan(asked: argparse.Namespace, name: str) -> Plan:
    """The study's plan, from its folder in --storage, else (or with --tracking) from its MLflow run.

    The flags for tracking and experiment replace the plan's own. Raises UserError if the plan is in neither place.
    """
    folder = None if asked.tracking else stored_folder(asked, name)
    if folder is None and (asked.tracking or not in_storage(asked, name)):
        return logged_plan(asked, name)
    plan = Plan.find(absolute(asked.storage), name) if folder is None else Plan.load(folder)
    return plan.with_fields(experiment=asked.experiment or plan.output.experiment)


def stored_folder(asked: argparse.Namespace, name: str) -> Path | None:
    """The folder in --storage of the study `name`, else of the newest study whose name begins with it, which is
    printed.
    """
    folder = study_folder(absolute(asked.storage), name)
    if (folder / PLAN_FILE).exists():
        return folder
    plans = list(folder.parent.glob(f"{glob.escape(folder.name)}*/{PLAN_FILE}"))
    if not plans:
        return None
    newest = max(plans, key=lambda path: path.stat().st_mtime).parent
    say_taken(name, newest.name)
    return newest


def in_storage(asked: argparse.Namespace, name: str) -> bool:
    """Whether a study of exactly this name is behind --storage, where that is a URL."""
    where = absolute(asked.storage)
    with storage_errors(where, "read"):
        return is_remote(where) and storage.exists(storage.join(where, name, PLAN_FILE))


def say_taken(name: str, found: str) -> None:
    print(f"{name}: taking {found}, the newest study whose name begins so", file=sys.stderr)


def folder_plan(asked: argparse.Namespace, name: str, *, exact: bool = False) -> Plan:
    """The plan in the study's folder. Commands that talk to its driver or touch its files need this one.

    exact: do not accept the beginning of a name (for commands that delete files without asking).
    """
    found = None if exact else stored_folder(asked, name)
    plan = Plan.load(found) if found else Plan.find(absolute(asked.storage), name)
    changes = {"tracking": asked.tracking and absolute(asked.tracking), "experiment": asked.experiment}
    return plan.with_fields(**{key: value for key, value in changes.items() if value})


def alive(plan: Plan) -> bool | None:
    """Whether a driver runs the study; None if its folder is not on this machine."""
    from sweeps.storage import driver_lock

    return driver_lock.is_held(plan) if Path(plan.output.folder, PLAN_FILE).exists() else None


def logged_plan(asked: argparse.Namespace, name: str) -> Plan:
    """The plan on the study's MLflow run, with the tracking address under which it was found.

    If no study is called `name`, the newest whose name begins with it is taken.
    """
    from mlflow.exceptions import MlflowException

    uri, experiment = tracking_uri(asked), asked.experiment or EXPERIMENT
    client, experiment_id = known_experiment(uri, experiment)
    runs = client.search_runs([experiment_id], filter_string=f"tags.`{ROLE}` = 'study'", max_results=50_000)
    named = [run for run in runs if run.data.tags[SWEEP] == name]
    if not named:
        named = [run for run in runs if run.data.tags[SWEEP].startswith(name)]
        for run in named[:1]:
            say_taken(name, run.data.tags[SWEEP])
    if not named:
        raise UserError(
            f"{name}: no study of that name in --storage {asked.storage} or in --experiment {experiment} of {uri}; "
            "see: python -m sweeps status"
        )
    with tempfile.TemporaryDirectory(prefix="svgan-plan-") as folder:
        try:
            path = client.download_artifacts(named[0].info.run_id, PLAN_FILE, folder)
        except (MlflowException, OSError) as error:
            raise UserError(f"{name}: its {PLAN_FILE} is not to be had from MLflow ({error})") from None
        fields = json.loads(Path(path).read_text())
    return Plan.from_json({**fields, "tracking": uri, "experiment": experiment})


def trial_run(tracking: Tracking, what: str) -> Run:
    """The MLflow run of the trial `NAME:NUMBER`."""
    name, _, number = what.partition(":")
    if not number.isdigit():
        raise UserError(f"{what}: give a trial as {name}:NUMBER, for example {name}:0")
    runs = {run.data.tags[TRIAL]: run for run in tracking.runs()}
    if str(int(number)) not in runs:
        raise UserError(
            f"{what}: {name} has trials {', '.join(runs) or 'none yet'}; see: python -m sweeps status {name}"
        )
    return runs[str(int(number))]


def open_tracking(plan: Plan) -> Tracking:
    """Open the study's MLflow. Raises UserError if the database or experiment does not exist; creates neither."""
    from sweeps.tracking.client import Tracking

    known_experiment(plan.output.tracking, plan.output.experiment)
    return Tracking(plan)
