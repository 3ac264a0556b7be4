"""One MLflow run per trial, whatever dies: got or made by tag, logged by rank 0, closed by the driver.

The sweep's driver makes the parent run and closes trials' runs (a stopped trial's processes are killed and cannot);
each trial's driver gets or makes its child run; rank 0 logs into it. `svgan.*` tags are the keys.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from svgan.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

    from sweeps.plan import Plan

SWEEP, ROLE, TRIAL, STEP, OUTCOME = "svgan.sweep", "svgan.role", "svgan.trial", "svgan.step", "svgan.outcome"
LOADER = "sweeps.champion_loader"
# Without it MLflow 3's UI opens the experiment as one of prompts and traces.
MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}


def connect(uri: str) -> MlflowClient:
    """A client of the tracking server or database; UserError within seconds if it cannot be reached.

    The address becomes the process's own: MLflow's registry looks logged models up through the global one, whatever
    its client was given (docs/traps.md).
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname or "", port), timeout=5).close()
        except OSError as error:
            raise UserError(
                f"--tracking {uri}: MLflow is not reachable ({error}); start it, or leave the flag out for a local file"
            ) from None
    import mlflow

    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri)


def open_experiment(uri: str, name: str) -> tuple[MlflowClient, str]:
    """The experiment's id, made where missing. Done once on the driver: first use of a fresh database migrates it.

    Beside a SQLite file the artifacts go to `mlartifacts/` in the same folder, where a bare `mlflow ui` finds them.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client = connect(uri)
        found = client.get_experiment_by_name(name)
        if found is None:
            location = None
            if uri.startswith("sqlite:///"):
                location = Path(uri.removeprefix("sqlite:///")).parent.joinpath("mlartifacts", name).as_uri()
            return client, client.create_experiment(name, artifact_location=location, tags=MODEL_TRAINING)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"--tracking {uri}: MLflow cannot be used ({reason}); is it writable and current?") from None
    if found.lifecycle_stage != "active":
        raise UserError(f"--experiment {name}: it was deleted in MLflow; restore it there or choose another name")
    return client, found.experiment_id


class Tracking:
    """The MLflow side of one sweep, held by the driver and by each trial's driver."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.client, self.experiment = open_experiment(plan.tracking, plan.experiment)

    def find(self, **tags: str) -> Run | None:
        clauses = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs = self.client.search_runs([self.experiment], filter_string=clauses, max_results=1)
        return runs[0] if runs else None

    def parent(self) -> str:
        """The study's run, got or made; RUNNING again if it had ended."""
        tags = {SWEEP: self.plan.name, ROLE: "study"}
        return self._open(tags, self.plan.name, {"study": self.plan.study, **self.plan.tags})

    def trial(self, number: int) -> str:
        """The trial's run, got or made, as a child of the study's; a further attempt is counted."""
        tags = {SWEEP: self.plan.name, ROLE: "trial", TRIAL: str(number)}
        return self._open(
            tags, f"{self.plan.name}-{number:03d}", {"mlflow.parentRunId": self.parent_id(), **self.plan.tags}
        )

    def parent_id(self) -> str:
        run = self.find(**{SWEEP: self.plan.name, ROLE: "study"})
        return run.info.run_id if run else self.parent()

    def _open(self, keys: dict[str, str], name: str, tags: dict[str, str]) -> str:
        run = self.find(**keys)
        if run is None:
            made = self.client.create_run(self.experiment, run_name=name, tags={**keys, **tags, "attempts": "1"})
            return made.info.run_id
        self.client.set_tag(run.info.run_id, "attempts", str(int(run.data.tags.get("attempts", "0")) + 1))
        self.client.update_run(run.info.run_id, status="RUNNING")
        return run.info.run_id

    def params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(run_id, params=[Param(key, _short(value)) for key, value in params.items()])

    def close_trial(self, number: int, outcome: str, error: str | None = None) -> None:
        """Set a trial's final status: finished -> FINISHED, pruned -> KILLED, failed -> FAILED."""
        run = self.find(**{SWEEP: self.plan.name, TRIAL: str(number)})
        run_id = run.info.run_id if run else self.trial(number)
        self.client.set_tag(run_id, OUTCOME, outcome)
        if error:
            self.client.set_tag(run_id, "error", error[:5000])
        self.client.set_terminated(run_id, {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}[outcome])

    def close(self, status: str) -> None:
        self.client.set_terminated(self.parent_id(), status)

    def runs(self) -> list[Run]:
        """The trials' runs in order of their numbers."""
        found = self.client.search_runs(
            [self.experiment],
            filter_string=f"tags.`{SWEEP}` = '{self.plan.name}' and tags.`{ROLE}` = 'trial'",
            max_results=50000,
        )
        return sorted(found, key=lambda run: int(run.data.tags[TRIAL]))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 6000 else text[:5990] + "..."


class TrialLog:
    """What rank 0 writes into its trial's run: metrics by step, each step once, and a model per improvement."""

    def __init__(self, tracking: str, experiment: str, run_id: str, sweep: str, number: int) -> None:
        self.client = connect(tracking)
        self.experiment, self.run_id, self.sweep, self.number = experiment, run_id, sweep, number
        self.known = dict(self.client.get_run(run_id).data.metrics)
        self.seen = {(key, point.step) for key in self.known for point in self.client.get_metric_history(run_id, key)}
        self.made = {
            int(model.tags[STEP]): model.model_id for model in sweep_models(self.client, experiment, sweep, number)
        }

    def metrics(self, step: int, values: Mapping[str, float], model_id: str | None = None) -> None:
        """Log values at a step, but those that an earlier attempt has logged there already."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = {key: float(value) for key, value in values.items() if (key, step) not in self.seen}
        batch = [Metric(key, value, now, step, model_id=model_id) for key, value in new.items()]
        self.client.log_batch(self.run_id, metrics=batch)
        self.seen |= {(key, step) for key in new}

    def figures(self, names: Sequence[str]) -> dict[str, float]:
        """Those of the figures that an earlier attempt has logged."""
        return {name: self.known[name] for name in names if name in self.known}

    def model(self, step: int, folder: Path, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        """Publish a generator's folder as a LoggedModel of this run; returns its id."""
        if step in self.made:
            return self.made[step]
        keys = {SWEEP: self.sweep, TRIAL: str(self.number), STEP: str(step), **tags}
        model = self.client.create_logged_model(
            self.experiment,
            name=f"{self.sweep}-{self.number:03d}",
            source_run_id=self.run_id,
            tags=keys,
            params={key: str(value)[:250] for key, value in params.items()},
            model_type="temporal-gan-generator",
        )
        with _mlmodel(folder, model.model_id, self.run_id):
            self.client.log_model_artifacts(model.model_id, str(folder))
        self.client.finalize_logged_model(model.model_id, "READY")
        self.made[step] = model.model_id
        return model.model_id

    def tag_model(self, model_id: str, tags: Mapping[str, str]) -> None:
        self.client.set_logged_model_tags(model_id, dict(tags))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        self.client.log_artifact(self.run_id, str(path), folder)


@contextlib.contextmanager
def _mlmodel(folder: Path, model_id: str, run_id: str) -> Iterator[None]:
    """Put MLflow's own descriptor beside the generator for the upload: plain YAML that names our loader module."""
    from mlflow.models import Model

    path = folder / "MLmodel"
    described = Model(model_id=model_id, run_id=run_id)
    described.add_flavor("python_function", loader_module=LOADER, python_version=platform.python_version())
    described.save(str(path))
    try:
        yield
    finally:
        path.unlink()


def sweep_models(client: MlflowClient, experiment: str, sweep: str, number: int | None = None) -> list[LoggedModel]:
    """All READY LoggedModels of a sweep (of one trial), stopped trials' included."""
    from mlflow.entities import LoggedModelStatus

    clauses = f"tags.`{SWEEP}` = '{sweep}'" + ("" if number is None else f" AND tags.`{TRIAL}` = '{number}'")
    found: list[LoggedModel] = []
    token = None
    while True:
        page = client.search_logged_models([experiment], filter_string=clauses, page_token=token)
        found += [model for model in page if model.status == LoggedModelStatus.READY]
        token = page.token
        if not token:
            return found
