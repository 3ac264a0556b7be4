"""Studies made without Ray: a plan in its folder, the study's record, MLflow runs with metrics, models, pictures."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from made_plan import PLAN
from mlflow.entities import Metric

from sweeps import __main__ as commands
from sweeps.record.entries import Ended, Proposed
from sweeps.search.optuna_store import open_log
from sweeps.storage.metric_names import LATENT_FD_BEST
from sweeps.storage.plan import Plan
from sweeps.tracking.client import Tracking, sweep_models

DIGESTS = {"latents": "l1", "domain": "d1", "protocol.short": "s1", "protocol.long": "p1", "package": "k1"}


def make_plan(folder: Path, name: str, **change) -> Plan:
    fields = {
        "name": name,
        "storage": str(folder),
        "folder": str(folder / name),
        "tracking": f"sqlite:///{folder}/mlflow.db",
        "digests": tuple(DIGESTS.items()),
    }
    return Plan.from_fields(PLAN | fields | change)


class Made:
    """A study of trials with the given outcomes (None: still running)."""

    def __init__(self, plan: Plan, outcomes) -> None:
        self.plan = plan
        plan.save()
        self.tracking = Tracking(plan)
        parent = self.tracking.parent()
        self.tracking.client.log_artifact(parent, str(Path(plan.output.folder, "study.json")))
        self.record = open_log(plan, "made")
        self.record.read()
        for number, outcome in enumerate(outcomes):
            self.trial(number, outcome)

    def trial(self, number, outcome=None, *, error=None, **config):
        """One trial whose figures follow from its number, better with every trial."""
        run_id = self.tracking.trial(number)
        config = {"gap_weight": 10.0 * number, "width": 32, "critic": "tconv", "seed": 0, "steps": 40} | config
        self.tracking.params(run_id, config)
        step = 40 if outcome == "finished" else 10
        points = []
        for at in range(10, step + 1, 10):
            figures = {"latent_fd": 2.0 + at / 100, "latent_fd_best": 2.0 - number / 10, "steps_done": at}
            figures |= {"iterations_per_second": 2.0}
            if outcome == "finished" and at == step:
                figures |= {"fvd_short": 20.0 + number, "fvd_long": 50.0 - number}
            points += [Metric(key, value, 1000 * at, at) for key, value in figures.items()]
        self.tracking.client.log_batch(run_id, metrics=points)
        self.record.append(Proposed(number=number, params={}))
        if outcome:
            self.tracking.close_trial(run_id, outcome, error or ("NonFiniteLoss: gp" if outcome == "failed" else None))
            end(self.record, number, outcome)
        return run_id

    def sheet(self, number, shade, height=20):
        from svgan.io.video_writer import write_png

        path = Path(self.plan.output.folder, "contact_sheet.png")
        write_png(np.full((height, 30, 3), shade, np.uint8), path)
        run = self.tracking.find(**{"svgan.sweep": self.plan.name, "svgan.trial": str(number)})
        self.tracking.client.log_artifact(run.info.run_id, str(path))

    def train_folder(self, number, size=1000):
        """Ray Train's folder of a trial, as large as said."""
        folder = Path(
            self.plan.output.storage, self.plan.trial_name(number), "checkpoint_2026-11-22_01-29-51.537493", "state"
        )
        folder.mkdir(parents=True)
        (folder / "tensors.safetensors").write_bytes(bytes(size))
        return Path(self.plan.output.storage, self.plan.trial_name(number))


def end(record, number, outcome):
    figures = {LATENT_FD_BEST: 1.0} if outcome == "finished" else {}
    record.append(Ended(number=number, ending=outcome, figures=figures))


def study(folder, database, name, outcomes=(), **change) -> Made:
    """A made study in `folder`, whose mlflow.db is copied from `database` where there is none yet."""
    if not (folder / "mlflow.db").exists():
        shutil.copy(database, folder / "mlflow.db")
    return Made(make_plan(folder, name, **change), outcomes)


def put_model(study, number, step, **figures):
    """A logged model of a trial at a step, as `TrialLog.model` makes it, of one small file."""
    client = study.tracking.client
    run = study.tracking.find(**{"svgan.sweep": study.plan.name, "svgan.trial": str(number)})
    keys = {"svgan.sweep": study.plan.name, "svgan.trial": str(number), "svgan.step": str(step)}
    model = client.create_logged_model(study.tracking.experiment, source_run_id=run.info.run_id, tags=keys)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tensors.safetensors").write_bytes(bytes(500))
        Path(folder, "MLmodel").write_text("flavors: {}")
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    score_model(study, number, model.model_id, step=step, **figures)
    return model.model_id


def score_model(study, number, model_id, step=1, **figures):
    run = study.tracking.find(**{"svgan.sweep": study.plan.name, "svgan.trial": str(number)})
    for key, value in figures.items():
        study.tracking.client.log_metric(run.info.run_id, key, value, step=step, model_id=model_id)


def register(study, model_id):
    client = study.tracking.client
    client.create_registered_model("m")
    client.create_model_version("m", source=f"models:/{model_id}", model_id=model_id)


def model_keys(study):
    """Trial and step of the study's logged models that are not deleted."""
    found = sweep_models(study.tracking.client, study.tracking.experiment, study.plan.name)
    return {(int(model.tags["svgan.trial"]), int(model.tags["svgan.step"])) for model in found}


def model_folders(folder):
    """Ids of the models whose files are there."""
    return {path.parts[-3] for path in folder.glob("mlartifacts/*/models/*/artifacts/MLmodel")}


def run_mlflow_gc(uri):
    """What `mlflow gc` says, which must get over files that are gone already."""
    from click.testing import CliRunner
    from mlflow.cli import gc

    done = CliRunner().invoke(gc, ["--backend-store-uri", uri, "--tracking-uri", uri])
    assert done.exit_code == 0, done.output
    return done.output


def run_command(capsys, *arguments):
    """What a command prints; it may exit with no other code than 0."""
    commands.main([*arguments, "--storage", "."])
    return capsys.readouterr().out


def refused(capsys, *arguments):
    """The one line with which a command refuses."""
    with pytest.raises(SystemExit) as stopped:
        commands.main([*arguments, "--storage", "."])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    return said.err
