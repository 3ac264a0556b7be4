"""One MLflow run per trial, whatever dies: found or created by tag, logged by rank 0, closed by the driver.

The study's driver creates the parent run, and closes the trials' runs, because the processes of a pruned trial are
killed. Each trial's driver finds or creates its child run; rank 0 logs into it. `svgan.*` tags are the keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from filelock import FileLock

from svgan.errors import UserError
from sweeps.storage.tag_names import OUTCOME, ROLE, STEP, SWEEP, TRIAL
from sweeps.storage.trial_outcome import Ending

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

    from sweeps.storage.plan import Plan

ATTEMPTS, DEVICE = "attempts", "device"
STATUS: dict[Ending, str] = {"finished": "FINISHED", "pruned": "KILLED", "halted": "KILLED", "failed": "FAILED"}
CONNECT_SECONDS = 5.0  # to a server that is up; a training loop waits for it
# MLflow's own retries would hold a training loop for minutes; `trial_log` keeps what could not be sent.
REQUESTS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
# Without this tag, MLflow 3's UI opens the experiment as one of prompts and traces.
MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}


def of_seed(name: str, seed: int | str) -> str:
    """The name of one seed's figure in a trial of several seeds."""
    return f"{name}/seed-{seed}"


def connect(uri: str) -> MlflowClient:
    """A client of the tracking server or database. Raises UserError within seconds if it cannot be reached.

    The address becomes the process's global one: MLflow's registry finds logged models through it, whatever its client
    was given (docs/traps.md).
    """
    for name, value in REQUESTS.items():
        os.environ.setdefault(name, value)
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname or "", port), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise UserError(
                f"--tracking {uri}: MLflow is not reachable ({error}); start it, or leave the flag out for a local file"
            ) from None
    import mlflow

    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri)


@contextlib.contextmanager
def one_at_a_time(uri: str) -> Iterator[None]:
    """Let one process of this machine open a database file at a time.

    Two processes that migrate a fresh file break it, and what a third reads meanwhile is neither old nor new
    (docs/traps.md).
    """
    if not uri.startswith("sqlite:///"):
        yield
        return
    name = hashlib.sha256(uri.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"svgan-{os.getuid()}-{name}.lock")
    with FileLock(path):  # it tries again where the last holder has removed the file
        try:
            yield
        finally:
            path.unlink()


def open_experiment(uri: str, name: str) -> tuple[MlflowClient, str]:
    """The experiment's id; it is created if missing. The driver calls this once, because the first use of a fresh
    database migrates it.

    Beside a SQLite file, artifacts go to `mlartifacts/` in the same folder, where a bare `mlflow ui` finds them.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with one_at_a_time(uri):
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
    """A study's MLflow runs, for the driver and for each trial's driver."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.client, self.experiment = open_experiment(plan.output.tracking, plan.output.experiment)
        self._parent: str | None = None

    def find(self, **tags: str) -> Run | None:
        """The run with these tags; of several, the one that began first, whoever looks."""
        clauses = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs = self.client.search_runs(
            [self.experiment], filter_string=clauses, max_results=1, order_by=["attributes.start_time ASC"]
        )
        return runs[0] if runs else None

    def page(self, run: Run) -> str:
        """The address of a run's page, or its id if MLflow is a file."""
        uri, run_id = self.plan.output.tracking, run.info.run_id
        page = f"{uri.rstrip('/')}/#/experiments/{self.experiment}/runs/{run_id}"
        return page if uri.startswith("http") else f"run {run_id} in MLflow"

    def parent(self) -> str:
        """The study's run, RUNNING: created if missing, opened again if it had ended. For a driver that begins."""
        self._parent = self._opened(self._study_run())
        return self._parent

    def parent_id(self) -> str:
        """The study's run, created if missing. One that has ended stays ended."""
        if self._parent is None:
            self._parent = self._study_run().info.run_id
        return self._parent

    def open_trial(self, number: int) -> str:
        """The trial's run, RUNNING: created if missing, opened again if it had ended. For a trial that starts."""
        return self._opened(self._trial_run(number))

    def trial(self, number: int, params: Mapping[str, Any] | None = None) -> str:
        """The trial's run, created if missing. One that has ended stays ended."""
        run_id = self._trial_run(number).info.run_id
        if params:
            self.params(run_id, params)
        return run_id

    def _study_run(self) -> Run:
        tags = {SWEEP: self.plan.name, ROLE: "study"}
        return self._found_or_made(tags, self.plan.name, {"study": self.plan.study, **self.plan.tags})

    def _trial_run(self, number: int) -> Run:
        tags = {SWEEP: self.plan.name, ROLE: "trial", TRIAL: str(number)}
        more = {"mlflow.parentRunId": self.parent_id(), **self.plan.tags}
        return self._found_or_made(tags, f"{self.plan.name}-{number:03d}", more)

    def _found_or_made(self, keys: dict[str, str], name: str, tags: dict[str, str]) -> Run:
        run = self.find(**keys)
        return run or self.client.create_run(self.experiment, run_name=name, tags={**keys, **tags})

    def _opened(self, run: Run) -> str:
        if run.info.status != "RUNNING":
            self.client.update_run(run.info.run_id, status="RUNNING")
        return run.info.run_id

    def params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(run_id, params=[Param(key, _short(value)) for key, value in params.items()])

    def close_trial(self, run_id: str, outcome: Ending, error: str | None = None) -> None:
        """Set a trial's final status: finished -> FINISHED, pruned and halted -> KILLED, failed -> FAILED."""
        self.client.set_tag(run_id, OUTCOME, outcome)
        if error:
            self.client.set_tag(run_id, "error", error[:5000])
        self.client.set_terminated(run_id, STATUS[outcome])

    def close(self, status: str, used: Mapping[str, float] | None = None) -> None:
        """End the study's run. used: the hours of its trials, as `usage.figures` names them."""
        for name, value in (used or {}).items():
            self.client.log_metric(self.parent_id(), name, value)
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


def sweep_models(client: MlflowClient, experiment: str, sweep: str, number: int | None = None) -> list[LoggedModel]:
    """All READY LoggedModels of a study (or of one trial), those of pruned trials included."""
    from mlflow.entities import LoggedModelStatus

    found = models_of(client, experiment, sweep, number)
    return [model for model in found if model.status == LoggedModelStatus.READY]


def models_of(
    client: MlflowClient, experiment: str, sweep: str, number: int | None = None, step: int | None = None
) -> list[LoggedModel]:
    """All LoggedModels of a study, of one trial or of one step of it, those included that are not READY yet."""
    asked = {SWEEP: sweep, TRIAL: number, STEP: step}
    clauses = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in asked.items() if value is not None)
    found: list[LoggedModel] = []
    token = None
    while True:
        page = client.search_logged_models([experiment], filter_string=clauses, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def preference(model: LoggedModel) -> tuple[bool, int, str]:
    """A sort key by which every process prefers the same of several models of one step: READY, then the earliest."""
    from mlflow.entities import LoggedModelStatus

    return model.status != LoggedModelStatus.READY, model.creation_timestamp, model.model_id


def registered_models(client: MlflowClient) -> set[str]:
    """The ids of the logged models behind any version of any registered model."""
    found: set[str] = set()
    token = None
    while True:
        page = client.search_model_versions(max_results=10_000, page_token=token)
        for version in page:
            found |= {(version.source or "").removeprefix("models:/"), getattr(version, "model_id", None) or ""}
        token = page.token
        if not token:
            return found


def files_of(tracking: Tracking, model: LoggedModel) -> Any:
    """The artifact repository that holds a logged model's files."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(model.artifact_location, tracking_uri=tracking.plan.output.tracking)


def delete_model(tracking: Tracking, model: LoggedModel) -> None:
    """Delete a logged model's files, then its entry, so that it is found again if this process dies between."""
    files_of(tracking, model).delete_artifacts()
    tracking.client.delete_logged_model(model.model_id)
