"""What a trial writes into its MLflow run: each figure, model and file once, whatever dies and whoever writes.

A `TrialLog` sends at once where it can. While MLflow is away, entries wait in the study's storage (`outbox`) and
training goes on; the next write after it is back, the driver at the study's end, or `python -m sweeps sync` sends them.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svgan.errors import UserError
from sweeps.storage import events, study_files
from sweeps.storage.trial_outcome import Ending
from sweeps.tracking import relay
from sweeps.tracking.client import ATTEMPTS, DEVICE, SEED, STEP, SWEEP, TRIAL, Tracking, sweep_models
from sweeps.tracking.outbox import Entry, Outbox, waiting
from sweeps.tracking.relay import RelayedSender

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

LOADER = "sweeps.champion_loader"
RETRY_AFTER = 10.0


def failures() -> tuple[type[Exception], ...]:
    """What MLflow raises while it cannot be used; requests' errors are OSErrors."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError, UserError)


class Sender:
    """Applies entries to a trial's run in MLflow, with no effect for what is there already."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan, self.number, self.tracking = plan, number, Tracking(plan)
        self.client = self.tracking.client

    @functools.cached_property
    def run_id(self) -> str:
        return self.tracking.trial(self.number)

    @functools.cached_property
    def known(self) -> dict[str, float]:
        """The last value of every figure that an earlier attempt logged."""
        return dict(self.client.get_run(self.run_id).data.metrics)

    @functools.cached_property
    def seen(self) -> set[tuple[str, int]]:
        """(name, step) of every figure in MLflow."""
        return {(key, point.step) for key in self.known for point in self.client.get_metric_history(self.run_id, key)}

    @functools.cached_property
    def made(self) -> dict[tuple[int, str], str]:
        """Ids of the trial's models by step, and by seed where a trial has several ('' where it has one)."""
        models = sweep_models(self.client, self.tracking.experiment, self.plan.name, self.number)
        return {(int(model.tags[STEP]), model.tags.get(SEED, "")): model.model_id for model in models}

    def apply(self, entry: Entry) -> None:
        getattr(self, f"_{entry.kind}")(entry.files, **entry.fields)

    def _open(self, files: Path | None, params: Mapping[str, Any], attempt: int, device: str = "") -> None:
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
        model_id = None if model is None else self.made.get((model, seed))
        batch = [Metric(key, value, at, step, model_id=model_id) for key, value in new.items()]
        self.client.log_batch(self.run_id, metrics=batch)
        self.seen.update((key, step) for key in new)

    def _model(self, files: Path | None, step: int, tags: Mapping[str, str], params: Mapping[str, str]) -> None:
        assert files is not None
        if (step, tags.get(SEED, "")) in self.made:
            return
        keys = {SWEEP: self.plan.name, TRIAL: str(self.number), STEP: str(step), **tags}
        model = self.client.create_logged_model(
            self.tracking.experiment,
            name=f"{self.plan.name}-{self.number:03d}",
            source_run_id=self.run_id,
            tags=keys,
            params={key: value[:250] for key, value in params.items()},
            model_type="temporal-gan-generator",
        )
        with _mlmodel(files, model.model_id, self.run_id):
            self.client.log_model_artifacts(model.model_id, str(files))
        self.client.finalize_logged_model(model.model_id, "READY")
        self.made[step, tags.get(SEED, "")] = model.model_id

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


class TrialLog:
    """Rank 0's way to MLflow, and the driver's for a trial; never raises because MLflow is away."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan, self.number = plan, number
        self.outbox = Outbox(plan, number)
        self.sender: Sender | RelayedSender | None = None
        self.retry_at = 0.0
        self.away = False
        with contextlib.suppress(*study_files.ERRORS):  # without the storage, MLflow is still told
            self.away = bool(self.outbox.names())

    def open(self, params: Mapping[str, Any], attempt: int = 0, device: str = "") -> None:
        """The run, with its parameters. attempt: how often workers were started for this trial, and on what device,
        where known."""
        told = {key: str(value) for key, value in params.items()}
        self._write(Entry("open", {"params": told, "attempt": attempt, "device": device}))

    def metrics(self, step: int, values: Mapping[str, float], model: int | None = None, seed: str = "") -> None:
        """Values at a step, each (name, step) once. model: the step of the LoggedModel that they also belong to, the
        one tagged with this seed where a trial has several."""
        fields = {"step": step, "values": dict(values), "model": model, "at": int(time.time() * 1000)}
        self._write(Entry("metrics", fields | ({"seed": seed} if seed else {})))

    def model(self, step: int, folder: Path, tags: Mapping[str, str], params: Mapping[str, Any]) -> None:
        """Publish a generator's folder as a LoggedModel of this run, one per step (and seed tag)."""
        told = {key: str(value) for key, value in params.items()}
        self._write(Entry("model", {"step": step, "tags": dict(tags), "params": told}, folder))

    def artifacts(self, paths: Sequence[Path], folder: str | None = None) -> None:
        """Files of the run; a file of the same name is replaced."""
        with tempfile.TemporaryDirectory(prefix="svgan-artifacts-") as together:
            for path in paths:
                shutil.copy(path, together)
            self._write(Entry("artifacts", {"folder": folder}, Path(together)))

    def close(
        self, outcome: Ending, error: str | None = None, used: Mapping[str, float] | None = None, step: int = 0
    ) -> None:
        """The trial's final status. used: the hours it took by then (`usage.figures`), at its last step."""
        at = int(time.time() * 1000)
        fields = {"outcome": outcome, "error": error, "used": dict(used or {}), "step": step, "at": at}
        self._write(Entry("close", fields))

    def figures(self, names: Sequence[str]) -> dict[str, float]:
        """Those of the figures that an earlier attempt has logged; none while MLflow is away."""
        with contextlib.suppress(*failures()):
            known = self._connected().known
            return {name: known[name] for name in names if name in known}
        return {}

    def link(self) -> str:
        """Where the run is looked at: its page, or its id where MLflow is a file; '' while MLflow is away."""
        with contextlib.suppress(*failures()):
            tracking = Tracking(self.plan)
            run = tracking.find(**{SWEEP: self.plan.name, TRIAL: str(self.number)})
            if run is not None:
                page = f"{self.plan.tracking.rstrip('/')}/#/experiments/{tracking.experiment}/runs/{run.info.run_id}"
                return page if self.plan.tracking.startswith("http") else f"run {run.info.run_id} in MLflow"
        return ""

    def _connected(self) -> Sender | RelayedSender:
        if self.sender is None:
            make = RelayedSender if relay.needed(self.plan) else Sender
            self.sender = make(self.plan, self.number)
        return self.sender

    def _write(self, entry: Entry) -> None:
        if not self._sent(entry):
            self.outbox.put(entry)

    def _sent(self, entry: Entry) -> bool:
        """Whether the entry, and all that waited before it, went through."""
        if time.monotonic() < self.retry_at:
            return False
        try:
            if self.away:
                count = self.outbox.send(self._connected().apply)
                events.tell(self.plan, self.number, f"MLflow is back; {count} writes that waited were sent")
                self.away = False
            self._connected().apply(entry)
        except failures() as error:
            if not self.away:
                reason = f"{type(error).__name__}: {str(error)[:150]}"
                events.tell(self.plan, self.number, f"MLflow cannot be used, so its writes wait here ({reason})")
            self.away, self.sender, self.retry_at = True, None, time.monotonic() + RETRY_AFTER
            return False
        return True


def sync(plan: Plan) -> tuple[int, int]:
    """Send what waits; returns how many entries went through and how many are left, for whatever reason."""
    sent = 0
    for number in waiting(plan):
        with contextlib.suppress(*failures()):
            sent += Outbox(plan, number).send(Sender(plan, number).apply)
    return sent, sum(waiting(plan).values())


def attempt(plan: Plan, number: int) -> int:
    """Note that workers start for this trial, and return how often they have: the storage counts, so nobody forgets."""
    where = study_files.place(plan, "attempts", f"{number:06d}")
    with contextlib.suppress(*study_files.ERRORS):
        study_files.write(f"{where}/{time.time_ns():020d}", b"")
        return len(study_files.names(where))
    return 1
