"""A grid of trials with two seeds each, on a real Ray: each seed is the run it would have been alone."""

import dataclasses
import os
import sys
import threading
from pathlib import Path

import pytest
from test_ray import optuna_trials, place, ray_here  # noqa: F401  (fixtures)
from toy import toy

from sweeps import study
from sweeps.storage import stop_request
from sweeps.storage.plan import Plan
from sweeps.storage.tag_names import SEED
from sweeps.tracking.client import Tracking, sweep_models

pytestmark = pytest.mark.slow


def gridded(domain, **change):
    """The toy study with a declarative space, so that a grid keeps what it holds fixed."""
    fixed = {"trunk": (16,), "critic_widths": (16, 8), "width": 8, "batch": 8, "n_critic": 1, "components": 16}
    constants = {name: value for name, value in fixed.items() if not isinstance(value, tuple)}
    made = toy(domain, **change)
    return dataclasses.replace(made, space={"gap_weight": [0.0], **constants})


def curve(tracking, run, name):
    return [(p.step, p.value) for p in tracking.client.get_metric_history(run.info.run_id, name)]


def test_a_grid_of_two_seeds_gives_means_of_what_each_seed_gives_alone(ray_here, place, footage):  # noqa: F811
    asked = ["--grid", "gap_weight=0,50", "--steps", "16"]
    promotion = study.run(gridded(footage[0]), [*asked, "--name", "pairs", "--seeds", "2"])
    alone = ["--grid", "gap_weight=0,50", "seed=0,1", "--steps", "16", "--clips", "0"]
    study.run(gridded(footage[0]), [*alone, "--name", "singles"])
    plan = Plan.load(place / "runs" / "pairs")
    pairs, singles = Tracking(plan), Tracking(Plan.load(place / "runs" / "singles"))
    trials = optuna_trials(plan)
    assert [t.params for t in trials] == [{"gap_weight": 0}, {"gap_weight": 50}]
    for run, trial, both in zip(pairs.runs(), trials, (singles.runs()[:2], singles.runs()[2:]), strict=True):
        for seed, single in enumerate(both):
            assert single.data.params["seed"] == str(seed)
            assert curve(pairs, run, f"latent_fd/seed-{seed}") == curve(singles, single, "latent_fd")
        bests = [single.data.metrics["latent_fd_best"] for single in both]
        assert trial.value == pytest.approx(sum(bests) / 2)
        metrics = run.data.metrics
        assert metrics["latent_fd_best"] == pytest.approx(sum(bests) / 2)
        assert metrics["latent_fd_low"] < metrics["latent_fd"] < metrics["latent_fd_high"]
        assert metrics["fvd_long"] == pytest.approx((metrics["fvd_long/seed-0"] + metrics["fvd_long/seed-1"]) / 2)
        assert run.data.params["seeds"] == "2"
        steps = [step for step, _ in curve(pairs, run, "latent_fd")]
        assert steps == list(range(2, 17, 2))
    models = sweep_models(pairs.client, pairs.experiment, plan.name)
    assert {model.tags[SEED] for model in models} == {"0", "1"}
    least = min(v for run in pairs.runs() for k, v in run.data.metrics.items() if k.startswith("fvd_long/seed-"))
    assert promotion.fvd_long == pytest.approx(least)
    artifacts = {file.path for file in pairs.client.list_artifacts(pairs.parent_id())}
    assert "ablation.csv" in artifacts


def test_a_stop_between_seeds_loses_nothing(ray_here, place, footage, tmp_path):  # noqa: F811
    """It comes while the second seed, at step 30 behind a report, waits for it."""
    asked = ["--grid", "gap_weight=50", "--steps", "200", "--clips", "0", "--seeds", "2"]
    study.run(gridded(footage[0]), [*asked, "--name", "whole2"])

    waits, ended = tmp_path / "waits", threading.Event()
    here = str(Path(toy.__code__.co_filename).parent)  # where workers find the module toy

    def waiting_loop(config):
        sys.path.insert(0, here)
        from toy import heed

        from sweeps.trial import worker

        inner, plan = worker.iterate, Plan.from_json(config["plan"])

        def iterate(state, clips, process):
            if (state.config.seed, state.step) == (1, 30):
                heed(plan, waits)
            return inner(state, clips, process)

        worker.iterate = iterate
        return worker.train_loop(config)

    def stop_in_the_middle():
        while not waits.exists() and not ended.wait(0.2):
            pass
        stop_request.request(Plan.load(place / "runs" / "cut2"))

    stopper = threading.Thread(target=stop_in_the_middle)
    stopper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            study.run(gridded(footage[0]), [*asked, "--name", "cut2"], loop=waiting_loop)
    finally:
        ended.set()
        stopper.join()
    plan = Plan.load(place / "runs" / "cut2")
    assert [t.state.name for t in optuna_trials(plan)] == ["WAITING"]
    study.run(gridded(footage[0]), ["--resume", "cut2"])
    cut, whole = Tracking(plan), Tracking(Plan.load(place / "runs" / "whole2"))
    (again,), (once,) = cut.runs(), whole.runs()
    for name in ("latent_fd", "latent_fd/seed-0", "latent_fd/seed-1", "critic_loss", "latent_fd_best"):
        assert curve(cut, again, name) == curve(whole, once, name)
    assert os.listdir(place / "runs" / "cut2" / "plots")
