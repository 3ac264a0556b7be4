"""A study's MLflow with a trained checkpoint to put into it: fixtures for tests of tracking and promotion."""

import shutil

import pytest
from made_plan import PLAN

from sweeps.storage.plan import Plan
from sweeps.tracking.client import Tracking, sweep_models
from sweeps.tracking.trial_log import TrialLog
from sweeps.trial.artifacts import export_generator


@pytest.fixture(scope="module")
def checkpoint_folder(footage, tmp_path_factory):
    """A whole checkpoint of an untrained run on the made footage."""
    from svgan.images.domain import Domain
    from svgan.latents.shards import open_latents
    from svgan.latents.spaces import make_space
    from svgan.training import checkpoint, recipes, registry

    domain, latents = Domain.load(footage[0]), open_latents(footage[1])
    run = recipes.make("tiny", steps=1, trunk=(8,), critic_widths=(8,), width=4, components=8)
    meta = {"domain": domain.digest, "latents": latents.digest, "fps": 25.0}
    state = registry.build_state(run, make_space("pca", latents, 8), meta)
    state.history.append({"step": 1, "latent_fd": 1.0})
    return checkpoint.save(state, tmp_path_factory.mktemp("checkpoint") / "state")


@pytest.fixture
def plan(database, footage, tmp_path):
    from svgan.images.domain import Domain
    from svgan.metrics.protocol import usual_precision

    shutil.copy(database, tmp_path / "mlflow.db")
    digests = (("domain", Domain.load(footage[0]).digest), ("latents", "l1"), ("protocol.long", "p1"))
    return Plan.from_fields(
        PLAN
        | {
            "domain": footage[0],
            "latents": footage[1],
            "storage": str(tmp_path / "runs"),
            "tracking": f"sqlite:///{tmp_path}/mlflow.db",
            "folder": str(tmp_path / "toy-1"),
            "precision": usual_precision("cpu"),
            "digests": digests,
        }
    )


@pytest.fixture
def tracking(plan):
    return Tracking(plan)


@pytest.fixture
def generator(checkpoint_folder, tmp_path):
    export_generator(checkpoint_folder, tmp_path / "generator")
    return tmp_path / "generator"


def put_model(tracking, number, step, generator, **figures):
    log = TrialLog(tracking.plan, number)
    log.model(step, generator, tracking.plan.tags, {"gap_weight": 1})
    log.metrics(step, figures, step)
    models = sweep_models(tracking.client, tracking.experiment, tracking.plan.name, number)
    return next(model.model_id for model in models if model.tags["svgan.step"] == str(step))
