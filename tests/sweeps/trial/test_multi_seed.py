"""Trials of several seeds: intervals, checkpoints that hold all of them, models found by seed."""

import dataclasses
import shutil
from types import SimpleNamespace

import pytest
import scipy.stats
from made_plan import PLAN

from svgan.latents.shards import open_latents
from svgan.latents.spaces import make_space
from svgan.training import checkpoint, recipes
from svgan.training.checkpoint import Damaged
from svgan.training.registry import build_state
from sweeps.promotion import registry
from sweeps.storage.plan import Plan
from sweeps.storage.tag_names import SEED
from sweeps.tracking.client import Tracking, sweep_models
from sweeps.tracking.trial_log import TrialLog
from sweeps.trial import multi_seed


def test_the_interval_is_students():
    values = [0.25, 0.31, 0.28, 0.4]
    mean, low, high = multi_seed.interval(values)
    expected = scipy.stats.t.interval(0.95, 3, loc=mean, scale=scipy.stats.sem(values))
    assert mean == pytest.approx(0.31)
    assert (low, high) == pytest.approx(expected)
    assert multi_seed.over_seeds("x", {4: 1.0, 7: 3.0})["x/seed-7"] == 3.0
    assert multi_seed.over_seeds("x", {4: 1.0, 7: 3.0})["x"] == 2.0


def test_reports_come_when_a_single_run_reports():
    assert multi_seed.ends(20, 8) == [8, 16, 20]
    assert multi_seed.ends(16, 8) == [8, 16]
    assert multi_seed.ends(3, 8) == [3]


@pytest.fixture(scope="module")
def states(footage):
    run = recipes.make("tiny", steps=4, trunk=(8,), critic_widths=(8,), width=4, components=8)
    space = make_space("pca", open_latents(footage[1]), 8)
    made = {}
    for seed, history in ((3, (0.4, 0.3)), (4, (0.2, 0.5))):
        made[seed] = build_state(dataclasses.replace(run, seed=seed), space, {"domain": "d", "fps": 25.0})
        made[seed].history += [{"step": 2 * k + 2, "latent_fd": value} for k, value in enumerate(history)]
        made[seed].step = 4
    return made


def test_the_objective_is_the_mean_of_each_seeds_best(states):
    so_far = multi_seed.figures_so_far(states)
    assert so_far["latent_fd"] == pytest.approx(0.4)
    assert so_far["latent_fd_best"] == pytest.approx(0.25)
    assert so_far["latent_fd_best_low"] < 0.25 < so_far["latent_fd_best_high"]
    assert {seed: best["step"] for seed, best in multi_seed.best_of(states).items()} == {3: 4, 4: 2}


def test_a_checkpoint_counts_only_when_all_seeds_in_it_are_whole(states, tmp_path):
    for name in ("newer", "older"):
        for seed, state in states.items():
            checkpoint.save(state, tmp_path / name / f"seed-{seed}" / "state")
    tensors = tmp_path / "newer" / "seed-4" / "state" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"!")
    told = []
    folders = [tmp_path / "newer", tmp_path / "older"]
    loaded = multi_seed.load_all(folders, [3, 4], "cpu", told.append)
    assert [(seed, state.config.seed, state.step) for seed, state in loaded.items()] == [(3, 3, 4), (4, 4, 4)]
    assert len(told) == 1
    assert "seed-4" in told[0]
    with pytest.raises(Damaged):
        multi_seed.load_all(folders[:1], [3, 4], "cpu", told.append)
    assert multi_seed.load_all([], [3, 4], "cpu", told.append) == {}


def test_models_of_two_seeds_at_one_step_keep_their_own_figures(states, tmp_path):
    plan = Plan.from_fields(PLAN | {"folder": str(tmp_path), "tracking": f"sqlite:///{tmp_path}/mlflow.db", "seeds": 2})
    log, tracking = TrialLog(plan, 0), Tracking(plan)
    log.open({"seed": 3})
    for turn in range(2):  # the second time as an attempt that does not know of the first
        log = TrialLog(plan, 0) if turn else log
        for seed, value in ((3, 0.3), (4, 0.2)):
            folder = checkpoint.save(states[seed], tmp_path / "generator")
            log.model(4, folder, {SEED: str(seed)}, {"lr": 1e-3})
            log.metrics(4, {f"latent_fd/seed-{seed}": value}, 4, seed=str(seed))
            shutil.rmtree(folder)
    models = sweep_models(tracking.client, tracking.experiment, plan.name)
    assert {model.tags[SEED]: registry.figure(model, "latent_fd") for model in models} == {"3": 0.3, "4": 0.2}
    assert len(models) == 2
    alone = SimpleNamespace(tags={}, metrics=[SimpleNamespace(key="latent_fd", value=0.1)])
    assert registry.figure(alone, "latent_fd") == 0.1
