"""`python -m sweeps promote NAME`, `python -m sweeps status [NAME]`, `python -m sweeps domain VIDEO`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from svgan.errors import UserError
from sweeps import quiet
from sweeps.plan import PLAN_FILE, Plan, absolute, default_tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ABOUT = """Look at studies in MLflow, and make the best checkpoint of one the champion.

  python -m sweeps status                 all studies: trials, best latent FD, best FVD
  python -m sweeps status gap-1           one study's table of trials, live or finished
  python -m sweeps domain me.mp4          a domain's frames beside their reconstructions
  python -m sweeps promote gap-1          its best checkpoint becomes the champion, if it beats the present one

A study promotes by itself when it ends; `promote` is for one that was cut, or for another --model.
"""
PROMOTE = """Choose the study's best checkpoint and make it the champion if its FVD is lower.

Candidates are the models logged by all trials, stopped ones included. The lowest FVD long (against W+) wins; a
checkpoint with the lowest latent FD but no FVD is scored first. The champion is replaced only by a lower FVD long
under the same protocol; else this says by how much it fell short. Load it anywhere with

  mlflow.pyfunc.load_model("models:/MODEL@champion").predict({"clips": 1, "frames": 250, "seed": 0})
"""

DOMAIN = """Embed held-out frames of a domain's footage, render them again, and log the figures with a picture of frames
above their reconstructions. The picture shows footage: it goes to your MLflow and into no folder of this project.

Cost: about a minute on one core, and once per video 30 to 80 ms a frame for the landmarks.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; a UserError is one line and exit code 2."""
    asked = parser().parse_args(argv)
    quiet.settings()
    try:
        asked.run(asked)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(prog="python -m sweeps", description=ABOUT, formatter_class=formatter)
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--tracking", metavar="URI", help="MLflow [$MLFLOW_TRACKING_URI or sqlite:///mlflow.db]")
    where.add_argument("--experiment", default="svgan", metavar="NAME", help="MLflow experiment [%(default)s]")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    look = commands.add_parser("status", parents=[where], help="table of studies, or of one study's trials")
    look.add_argument("name", nargs="?", metavar="NAME", help="of a study; all studies without it")
    look.set_defaults(run=status)
    lift = commands.add_parser(
        "promote",
        parents=[where],
        help="make a study's best checkpoint the champion",
        description=PROMOTE,
        formatter_class=formatter,
    )
    lift.add_argument("name", metavar="NAME", help="of the study")
    lift.add_argument("--model", metavar="MODEL", help="registered model [the study's: svgan-DOMAIN]")
    lift.set_defaults(run=promote)
    picture = commands.add_parser(
        "domain",
        parents=[where],
        help="log frames beside their reconstructions",
        description=DOMAIN,
        formatter_class=formatter,
    )
    picture.add_argument("footage", type=Path, metavar="VIDEO", help="the domain's footage (svgan assets talking-face)")
    picture.add_argument("--domain", default="default", metavar="DIR", help="a domain's folder [%(default)s]")
    picture.set_defaults(run=domain)
    return whole


def domain(asked: argparse.Namespace) -> None:
    from svgan.bars import Stages, bars, plain_console
    from svgan.images.domain import Domain
    from sweeps.domains import log_domain
    from sweeps.tracking import open_experiment

    made = Domain.load(asked.domain)
    client, experiment = open_experiment(
        absolute(asked.tracking) if asked.tracking else default_tracking(), asked.experiment
    )
    with bars(plain_console()) as progress:
        run, figures = log_domain(client, experiment, made, asked.footage, progress=Stages(progress))
    for name, value in figures.items():
        print(f"{name:12} {value:.3f}")
    print(f"MLflow run {run}")


def promote(asked: argparse.Namespace) -> None:
    from sweeps import registry
    from sweeps.tracking import Tracking

    plan = stored_plan(asked)
    if asked.model:
        plan = Plan.from_json({**plan.to_json(), "model": asked.model})
    print(registry.promote(Tracking(plan), plan).message)


def status(asked: argparse.Namespace) -> None:
    from rich.console import Console

    from sweeps import table
    from sweeps.tracking import Tracking

    if asked.name:
        plan = stored_plan(asked)
        Console().print(table.render(table.rows_of(Tracking(plan).runs()), plan.name))
    else:
        Console().print(studies(*_client(asked)))


def studies(client: MlflowClient, experiment: str) -> object:
    """A table of the experiment's studies, newest first."""
    from rich.table import Table

    from sweeps.table import figure
    from sweeps.tracking import ROLE, SWEEP

    shown = Table(title="studies", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("study", "status", "trials", "finished", "stopped", "failed", "latent FD", "FVD short", "FVD long"):
        left = column in ("study", "status")
        shown.add_column(column, justify="left" if left else "right", no_wrap=column == "study")
    runs = client.search_runs([experiment], filter_string=f"tags.`{ROLE}` != ''", max_results=50_000)
    for study in (run for run in runs if run.data.tags[ROLE] == "study"):
        name = study.data.tags[SWEEP]
        trials = [run for run in runs if run.data.tags[ROLE] == "trial" and run.data.tags[SWEEP] == name]
        ended = [run.data.tags.get("svgan.outcome") for run in trials]
        best = [figure(_least(trials, key)) for key in ("latent_fd_best", "fvd_short", "fvd_long")]
        counts = [len(trials), *(ended.count(outcome) for outcome in ("finished", "pruned", "failed"))]
        shown.add_row(name, study.info.status.lower(), *map(str, counts), *best)
    return shown


def _least(trials: list[Run], key: str) -> float | None:
    return min((run.data.metrics[key] for run in trials if key in run.data.metrics), default=None)


def _client(asked: argparse.Namespace) -> tuple[MlflowClient, str]:
    from sweeps.tracking import connect

    uri = absolute(asked.tracking) if asked.tracking else default_tracking()
    path = uri.removeprefix("sqlite:///")
    if path != uri and not Path(path).exists():
        raise UserError(f"--tracking {uri}: no such file; run this where the study ran, or give its --tracking")
    client = connect(uri)
    found = client.get_experiment_by_name(asked.experiment)
    if found is None:
        raise UserError(f"--experiment {asked.experiment}: not in {uri}; no study has run there under that name")
    return client, found.experiment_id


def stored_plan(asked: argparse.Namespace) -> Plan:
    """The plan that the study's run carries, with the tracking address it was just found under."""
    from mlflow.exceptions import MlflowException

    from sweeps.tracking import ROLE, SWEEP

    client, experiment = _client(asked)
    clauses = f"tags.`{SWEEP}` = '{asked.name}' and tags.`{ROLE}` = 'study'"
    runs = client.search_runs([experiment], filter_string=clauses, max_results=1)
    if not runs:
        raise UserError(f"{asked.name}: no study of that name in --experiment {asked.experiment}; see: status")
    with tempfile.TemporaryDirectory(prefix="svgan-plan-") as folder:
        try:
            path = client.download_artifacts(runs[0].info.run_id, PLAN_FILE, folder)
        except (MlflowException, OSError) as error:
            raise UserError(f"{asked.name}: its {PLAN_FILE} is not to be had from MLflow ({error})") from None
        fields = json.loads(Path(path).read_text())
    uri = absolute(asked.tracking) if asked.tracking else default_tracking()
    return Plan.from_json({**fields, "tracking": uri, "experiment": asked.experiment})


if __name__ == "__main__":
    main()
