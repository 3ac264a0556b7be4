"""Send a trial's runs, figures and models to MLflow; what cannot be sent waits in the outbox."""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from sweeps.storage.tag_names import SEED, STEP, SWEEP, TRIAL
from sweeps.storage.trial_outcome import Ending
from sweeps.tracking.client import ATTEMPTS, DEVICE, Tracking, models_of, preference
from sweeps.tracking.outbox import Entry

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

    from sweeps.storage.plan import Plan


LOADER = "sweeps.champion_loader"


def failures() -> tuple[type[Exception], ...]:
    """The exceptions that MLflow raises while it cannot be used. Those of requests are OSErrors."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError, UserError)


class Sender:
    """Applies entries to a trial's run in MLflow. What is there already is not written again."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan, self.number, self.tracking = plan, number, Tracking(plan)
        self.client = self.tracking.client
        self.made: dict[tuple[int, str], str] = {}  # ids of whole models by (step, seed); seed is '' if there is one

    @functools.cached_property
    def run_id(self) -> str:
        """The trial's run. Only the entry `open` opens one that has ended."""
        return self.tracking.trial(self.number)

    @functools.cached_property
    def known(self) -> dict[str, float]:
        """The last value of every figure that an earlier attempt logged."""
        return dict(self.client.get_run(self.run_id).data.metrics)

    @functools.cached_property
    def seen(self) -> set[tuple[str, int]]:
        """(name, step) of every figure in MLflow."""
        return {(key, point.step) for key in self.known for point in self.client.get_metric_history(self.run_id, key)}

    def apply(self, entry: Entry) -> None:
        getattr(self, f"_{entry.kind}")(entry.files, **entry.fields)

    def _open(self, files: Path | None, params: Mapping[str, Any], attempt: int, device: str = "") -> None:
        self.run_id = self.tracking.open_trial(self.number)
        self.tracking.params(self.run_id, params)
        if device:
            self.client.set_tag(self.run_id, DEVICE, device)
        if attempt:
            self.client.set_tag(self.run_id, ATTEMPTS, str(attempt))

    def _metrics(
        self,
        files: Path | None,
        step: int,
        values: Mapping[str, float],
        model: int | None,
        at: int,
        seed: str = "",
    ) -> None:
        from mlflow.entities import Metric

        new = {key: float(value) for key, value in values.items() if (key, step) not in self.seen}
        model_id = None if model is None else self._whole_model(model, seed)
        batch = [Metric(key, value, at, step, model_id=model_id) for key, value in new.items()]
        self.client.log_batch(self.run_id, metrics=batch)
        self.seen.update((key, step) for key in new)

    def _model(self, files: Path | None, step: int, tags: Mapping[str, str], params: Mapping[str, str]) -> None:
        from mlflow.entities import LoggedModelStatus

        assert files is not None
        model = self._model_at(step, tags.get(SEED, ""))
        if model is None:
            model = self.client.create_logged_model(
                self.tracking.experiment,
                name=f"{self.plan.name}-{self.number:03d}",
                source_run_id=self.run_id,
                tags={SWEEP: self.plan.name, TRIAL: str(self.number), STEP: str(step), **tags},
                params={key: value[:250] for key, value in params.items()},
                model_type="temporal-gan-generator",
            )
        if model.status != LoggedModelStatus.READY:
            with _mlmodel(files, model.model_id, self.run_id):
                self.client.log_model_artifacts(model.model_id, str(files))
            self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        self.made[step, tags.get(SEED, "")] = model.model_id

    def _whole_model(self, step: int, seed: str) -> str | None:
        if (step, seed) not in self.made:
            found = self._model_at(step, seed)
            if found is None or found.status != "READY":
                return None
            self.made[step, seed] = found.model_id
        return self.made[step, seed]

    def _model_at(self, step: int, seed: str) -> LoggedModel | None:
        """The trial's model of this step and seed as MLflow has it now. One that a dead process left unfinished is
        completed.
        """
        found = models_of(self.client, self.tracking.experiment, self.plan.name, self.number, step)
        own = [model for model in found if model.tags.get(SEED, "") == seed]
        return min(own, key=preference, default=None)

    def _artifacts(self, files: Path | None, folder: str | None) -> None:
        assert files is not None
        self.client.log_artifacts(self.run_id, str(files), folder)

    def _close(
        self,
        files: Path | None,
        outcome: Ending,
        error: str | None,
        used: Mapping[str, float] | None = None,
        step: int = 0,
        at: int = 0,
    ) -> None:
        if used:
            from mlflow.entities import Metric

            batch = [Metric(name, value, at, step) for name, value in used.items()]
            self.client.log_batch(self.run_id, metrics=batch)
        self.tracking.close_trial(self.run_id, outcome, error)


@contextlib.contextmanager
def _mlmodel(folder: Path, model_id: str, run_id: str) -> Iterator[None]:
    """Put MLflow's descriptor beside the generator for the upload: plain YAML that names our loader module."""
    from mlflow.models import Model

    path = folder / "MLmodel"
    described = Model(model_id=model_id, run_id=run_id)
    described.add_flavor("python_function", loader_module=LOADER, python_version=platform.python_version())
    described.save(str(path))
    try:
        yield
    finally:
        path.unlink()
