"""A study's state in a real MLflow: read as plain data, and mended call by call (`reconcile`)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.storage import usage
from sweeps.storage.metric_names import STEPS_DONE
from sweeps.storage.tag_names import OUTCOME, ROLE, SEED, STEP, SWEEP, TRIAL
from sweeps.storage.trial_outcome import Ending
from sweeps.tracking.client import Tracking, delete_model, models_of, registered_models
from sweeps.tracking.outbox import Outbox, waiting
from sweeps.tracking.reconcile import Comparison, Disagreement, Driver, Model, Run, Seen, compare
from sweeps.tracking.sender import Sender

if TYPE_CHECKING:
    import mlflow.entities as entities

    from sweeps.storage.plan import Plan

SET_ASIDE = "set aside"  # the role of a run that counts to no trial any more


class MlflowState:
    """Implements `reconcile.Mlflow`. Every method raises one of `sender.failures()` while MLflow is away."""

    def __init__(self, plan: Plan, tracking: Tracking) -> None:
        self.plan, self.tracking, self.client = plan, tracking, tracking.client

    def seen(self) -> Seen:
        study = self.tracking.find(**{SWEEP: self.plan.name, ROLE: "study"})
        models = models_of(self.client, self.tracking.experiment, self.plan.name)
        registered = registered_models(self.client) if models else set()
        return Seen(
            (study.info.run_id, study.info.status) if study else None,
            [_run(run) for run in self.tracking.runs()],
            [_model(model, model.model_id in registered) for model in models],
            waiting(self.plan),
        )

    def send_waiting(self, trial: int) -> None:
        Outbox(self.plan, trial).send(partial(Sender, self.plan, trial), wait=True)

    def close_run(self, trial: int, outcome: Ending, reason: str | None) -> None:
        """As the driver closes it: with the hours that it used, if they are known and not logged yet."""
        from mlflow.entities import Metric

        run_id = self.tracking.trial(trial)
        known = self.client.get_run(run_id).data.metrics
        used = usage.figures(self.plan, usage.recall(self.plan).get(trial, 0.0))
        now, step = int(time.time() * 1000), int(known.get(STEPS_DONE, 0))
        lacking = [Metric(name, value, now, step) for name, value in used.items() if value and name not in known]
        self.client.log_batch(run_id, metrics=lacking)
        self.tracking.close_trial(run_id, outcome, reason)

    def set_aside(self, run: str) -> None:
        self.client.set_tag(run, ROLE, SET_ASIDE)
        if self.client.get_run(run).info.status == "RUNNING":
            self.client.set_terminated(run, "KILLED")

    def merge_run(self, kept: str, other: str) -> None:
        whole, part = self.client.get_run(kept), self.client.get_run(other)
        self.client.log_batch(kept, metrics=self._lacking(whole, part), params=_new_params(whole, part))
        self._copy_files(kept, other)
        self.set_aside(other)

    def _lacking(self, whole: entities.Run, part: entities.Run) -> list[entities.Metric]:
        """The figures of `part` at (name, step) where `whole` has none."""

        def points(run: entities.Run) -> Iterable[entities.Metric]:
            return (p for name in run.data.metrics for p in self.client.get_metric_history(run.info.run_id, name))

        known = {(point.key, point.step) for point in points(whole)}
        return [point for point in points(part) if (point.key, point.step) not in known]

    def _copy_files(self, kept: str, other: str) -> None:
        there = {item.path for item in self.client.list_artifacts(kept)}
        for item in self.client.list_artifacts(other):
            if item.path not in there:
                with tempfile.TemporaryDirectory(prefix="svgan-merge-") as folder:
                    path = Path(self.client.download_artifacts(other, item.path, folder))
                    log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
                    log(kept, str(path), *([item.path] if path.is_dir() else []))

    def delete_model(self, model: str) -> None:
        delete_model(self.tracking, self.client.get_logged_model(model))

    def merge_model(self, kept: str, other: str) -> None:
        from mlflow.entities import Metric

        whole, part = self.client.get_logged_model(kept), self.client.get_logged_model(other)
        known = {(figure.key, figure.step) for figure in whole.metrics or []}
        new = [figure for figure in part.metrics or [] if (figure.key, figure.step) not in known]
        points = [Metric(f.key, f.value, f.timestamp, f.step, model_id=kept) for f in new]
        if points:
            self.client.log_batch(str(whole.source_run_id), metrics=points)
        delete_model(self.tracking, part)

    def close_study(self, run: str, status: str) -> None:
        self.client.set_terminated(run, status)


def comparison(
    plan: Plan,
    tracking: Tracking,
    endings: Mapping[int, Ending | None],
    driver: Driver = "none",
    reasons: Mapping[int, str] | None = None,
) -> Comparison:
    """The comparison of a real MLflow with the record; the arguments are those of `reconcile.compare`."""
    state = MlflowState(plan, tracking)

    def find() -> list[Disagreement]:
        return compare(state.seen(), endings, driver, reasons)

    return Comparison(find, state)


def _run(run: entities.Run) -> Run:
    tags = run.data.tags
    return Run(run.info.run_id, int(tags[TRIAL]), run.info.status, tags.get(OUTCOME), run.info.start_time)


def _model(model: entities.LoggedModel, registered: bool) -> Model:
    tags, status = model.tags, str(model.status)
    return Model(
        model.model_id,
        int(tags[TRIAL]),
        int(tags[STEP]),
        tags.get(SEED, ""),
        status,
        registered,
        model.creation_timestamp,
    )


def _new_params(whole: entities.Run, part: entities.Run) -> list[entities.Param]:
    from mlflow.entities import Param

    return [Param(key, value) for key, value in part.data.params.items() if key not in whole.data.params]
