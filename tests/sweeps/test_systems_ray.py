"""Every system through the platform: a tiny grid study on a real Ray, into MLflow, promoted, and back by its alias."""

import subprocess
import sys

import mlflow
import numpy as np
import pytest
from made_world import another_domain
from test_ray import optuna_trials, place, ray_here  # noqa: F401  (fixtures)

from svgan.images.domain import Domain
from svgan.latents.manifest import VideoCodes
from svgan.latents.origins import Origins
from svgan.latents.shards import open_latents, write_latents
from sweeps import study
from sweeps.storage.plan import Plan
from sweeps.study import Study
from sweeps.tracking.client import Tracking, sweep_models

pytestmark = pytest.mark.slow

MOCO = {"memory": 6, "components": 6, "mapping_samples": 500, "critic_size": 8, "batch": 2, "window": 4, "lr": 1e-3}
SPARSE = {"kernel": 3, "distance": 8, "window": 9, "batch": 8}  # of which two workers have a group of four each
APART = {"same_motion.mp4", "same_motion.png", "same_content.mp4", "same_content.png"}
# What makes a recipe small, and a grid over a field of its own.
SYSTEMS = {
    "mocogan-hd": (MOCO | {"n_generator": 2}, {"basis": [False, True]}),
    "stylegan-v": (SPARSE | {"width": 8, "channel_base": 128, "channel_max": 8, "joined": 8}, {"frames": [2, 3]}),
    "stylegan-v-codes": ({"width": 8, "batch": 8, "n_critic": 1}, {"critic": ["tconv", "holistic"]}),
}


def of(recipe, domain):
    small, grid = SYSTEMS[recipe]
    return Study(recipe, small, recipe, domain=domain, model=recipe, steps=4, clips=2, reports=2, grid=grid)


@pytest.fixture(scope="module", params=SYSTEMS)
def swept(request, ray_here, place, footage):  # noqa: F811
    """A grid of two points, 4 steps each, FVD on 2 clips, promotion."""
    recipe = request.param
    promotion = study.run(of(recipe, footage[0]), ["--name", recipe, "--grid"])
    plan = Plan.load(place / "runs" / recipe)
    return recipe, promotion, plan, Tracking(plan)


def test_every_point_is_in_mlflow_with_figures_clips_and_models(swept):
    recipe, _, plan, tracking = swept
    ((field, values),) = plan.search.grid.items()
    runs = tracking.runs()
    assert [run.data.params[field] for run in runs] == [str(value) for value in values]
    assert [trial.params for trial in optuna_trials(plan)] == [{field: value} for value in values]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.params["recipe"] == recipe
        assert run.data.metrics["fvd_short"] > 0
        assert run.data.metrics["fvd_long"] > 0
        curve = tracking.client.get_metric_history(run.info.run_id, "latent_fd")
        assert [point.step for point in curve] == [2, 4]
        shown = {file.path: file.file_size for file in tracking.client.list_artifacts(run.info.run_id)}
        expected = {"clip.mp4", "clip.gif", "contact_sheet.png"} | (APART if recipe == "mocogan-hd" else set())
        assert all(shown[name] > 500 for name in expected)
    models = sweep_models(tracking.client, tracking.experiment, plan.name)
    assert {model.tags["svgan.trial"] for model in models} == {"0", "1"}
    assert "ablation.csv" in {file.path for file in tracking.client.list_artifacts(tracking.parent_id())}


def test_the_champion_comes_back_by_its_alias(swept):
    recipe, promotion, plan, _ = swept
    assert promotion.version == "1"
    mlflow.set_tracking_uri(plan.output.tracking)
    champion = mlflow.pyfunc.load_model(f"models:/{recipe}@champion")
    frames = champion.predict({"clips": [2], "frames": [9], "seed": [3]})
    assert frames.shape == (2, 9, 16, 16, 3)
    assert frames.dtype == np.uint8
    shorter = champion.predict({"clips": [2], "frames": [4], "seed": [3]})
    assert np.abs(frames[:, :4].astype(int) - shorter).max() <= 1, "in smaller batches the last bit may differ"
    assert not np.array_equal(frames[0], frames[1])


def test_another_domains_pictures_move_as_recorded_footage_through_all_of_it(ray_here, place, footage, tmp_path):  # noqa: F811
    """Trained on the frames kept beside the codes, judged against them too, promoted as the other domain's model, and
    that domain renders what comes back."""
    dogs = another_domain(tmp_path / "dogs", 8)
    codes, small = with_frames(footage, tmp_path / "codes"), MOCO | {"n_generator": 1}
    whole = Study("cross", small, "mocogan-hd-cross", domain=footage[0], steps=4, clips=2, reports=2)
    flags = ["--name", "cross", "--trials", "1", "--pictures", str(dogs), "--footage", "--latents", codes]
    promotion = study.run(whole, flags)
    assert (promotion.version, promotion.model) == ("1", "svgan-dogs")
    plan = Plan.load(place / "runs" / "cross")
    tracking = Tracking(plan)
    (run,) = tracking.runs()
    assert run.data.tags["pictures"] == Domain.load(dogs).digest
    assert run.data.tags["domain"] == Domain.load(footage[0]).digest
    for name in ("latent_fd", "fvd_short", "fvd_long", "fvd_short_original", "fvd_long_original"):
        assert run.data.metrics[name] > 0
    assert {file.path for file in tracking.client.list_artifacts(run.info.run_id)} >= APART
    mlflow.set_tracking_uri(plan.output.tracking)
    champion = mlflow.pyfunc.load_model("models:/svgan-dogs@champion")
    assert champion.predict({"clips": [1], "frames": [2]}).shape == (1, 2, 32, 32, 3)
    for command in (["reproduce", "cross:0"], ["evaluate", "cross:0", "--metrics", "fvd"]):
        done = subprocess.run([sys.executable, "-m", "sweeps", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "equal in every" in done.stdout
        assert "NOT" not in done.stdout


def with_frames(footage, folder):
    """The first of the footage's codes, so that few real clips are measured, with recorded frames beside them: what
    they render, mirrored."""
    domain, known = Domain.load(footage[0]), open_latents(footage[1])
    videos, frames = [], {}
    for number, video in enumerate(known.manifest.videos):
        rows = np.flatnonzero(known.video == number)[:40]
        index, count = known.index[rows], len(rows)
        places = {"landmarks": np.zeros((count, 68, 2), np.float32), "transform": np.zeros((count, 2, 3), np.float32)}
        origins = Origins(source=video["name"], pts=index, time=index / 25, **places)
        videos.append(VideoCodes(video["name"], index, known.codes[rows], origins))
        frames[video["name"]] = domain.render(known.codes[rows])[:, :, ::-1]
    write_latents(folder, videos, domain=domain.digest, fps=25, recorded=lambda name, origins: frames[name])
    return str(folder)


def test_systems_side_by_side_have_equal_seconds_and_one_table(ray_here, place, footage):  # noqa: F811
    """Every recipe, two seeds each, of a study with more; taken up again, it has its steps and its table."""
    variants = {name: {"recipe": name, **SYSTEMS[name][0]} for name in SYSTEMS}

    def space(trial):
        name = trial.suggest_categorical("variant", list(variants))
        return {"variant": name, **variants[name]}

    variants["another"] = {"recipe": "tiny"}
    controls = [{"variant": name} for name in variants]
    own = {"seeds": 2, "seconds": 0.4, "clips": 2, "reports": 2, "rungs": (), "metrics": ("fvd", "loops")}
    both = Study("both", space, controls=controls, trials=len(controls), domain=footage[0], **own)
    study.run(both, ["--name", "both", "--trials", str(len(SYSTEMS))])
    plan = Plan.load(place / "runs" / "both")
    tracking = Tracking(plan)
    runs = tracking.runs()
    assert [run.data.params["variant"] for run in runs] == list(SYSTEMS)
    assert [run.data.params["recipe"] for run in runs] == list(SYSTEMS)
    assert [int(run.data.params["steps"]) for run in runs] == [run.data.metrics["steps_done"] for run in runs]
    assert tuple(int(run.data.params["steps"]) for run in runs) == plan.search.lengths
    table = (place / "runs" / "both" / "comparison.md").read_text()
    for run in runs:
        mean, low, high = (run.data.metrics[f"loops/still{end}"] for end in ("", "_low", "_high"))
        assert low <= mean <= high
        assert f"| {run.data.params['variant']} | {run.data.params['steps']} |" in table
    assert "FVD long" in table
    assert "comparison.md" in {file.path for file in tracking.client.list_artifacts(tracking.parent_id())}
    study.run(both, ["--resume", "both"])
    assert Plan.load(place / "runs" / "both") == plan
    assert (place / "runs" / "both" / "comparison.md").read_text() == table


@pytest.mark.parametrize("swept", ["mocogan-hd", "stylegan-v"], indirect=True)
def test_a_trial_of_frames_is_reproduced_and_two_workers_train_as_one(swept, footage):
    recipe, _, plan, one = swept
    again = [sys.executable, "-m", "sweeps", "reproduce", f"{recipe}:1"]
    done = subprocess.run(again, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "figures are equal in every bit" in done.stdout
    point, names = {
        "mocogan-hd": ("basis=true", ("video_critic_loss", "gradient_penalty", "image_critic_loss")),
        "stylegan-v": ("frames=3", ("critic_loss", "generator_loss", "real_sign")),
    }[recipe]
    flags = ["--name", f"two-{recipe}", "--workers", "2", "--concurrency", "1", "--clips", "0", "--grid", point]
    study.run(of(recipe, footage[0]), flags)
    (shared,) = Tracking(plan.with_fields(name=f"two-{recipe}")).runs()
    for name in ("latent_fd", *names):
        assert shared.data.metrics[name] == pytest.approx(one.runs()[1].data.metrics[name], rel=1e-3)
