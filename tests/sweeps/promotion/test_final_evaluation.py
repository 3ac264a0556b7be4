"""The final judgement: many clips, several generation seeds, each measured once, whoever is interrupted."""

import os
import subprocess
import sys
import time

import pytest
from made_tracking import put_model
from ray_cluster import Cluster

from sweeps.promotion import registry
from sweeps.promotion.final_evaluation import FinalEvaluation, asked
from sweeps.tracking.client import Tracking


@pytest.fixture
def final(plan):
    return plan.with_fields(promotion_clips=32, promotion_seeds=2)


@pytest.fixture
def measured(monkeypatch):
    """Values by (trial, seed), in place of measuring; and what was asked for."""

    class Measured(dict):
        calls: list = []  # noqa: RUF012

    values = Measured()
    values.calls = []

    def of(self, model, seed):
        values.calls.append((int(model.tags["svgan.trial"]), seed))
        return values[values.calls[-1]]

    monkeypatch.setattr(FinalEvaluation, "_measured", of)
    return values


def test_a_plan_without_it_takes_the_figures_that_trials_have(plan):
    assert not asked(plan)
    assert not asked(plan.with_fields(promotion_clips=plan.judging.clips))
    assert asked(plan.with_fields(promotion_clips=plan.judging.clips + 1))
    assert asked(plan.with_fields(promotion_seeds=2))


def test_the_mean_over_seeds_of_the_best_three_decides(tracking, final, generator, measured):
    for number, fvd in enumerate((200.0, 201.0, 300.0, 1000.0)):
        put_model(tracking, number, 10, generator, latent_fd=fvd, fvd_long=fvd)
    measured |= {(0, 0): 210.0, (0, 1): 230.0, (1, 0): 214.0, (1, 1): 206.0, (2, 0): 200.0, (2, 1): 400.0}
    told = registry.promote(tracking, final)
    assert (told.version, told.trial, told.fvd_long) == ("1", 1, 210.0)
    assert "trial 1, step 10, FVD long 210 (159.2 to 260.8) on 32 clips of each of 2 seeds" in told.message
    assert sorted(measured.calls) == sorted(measured), "the fourth is not among the best three"
    rule = FinalEvaluation(tracking, final).rule
    version = tracking.client.get_model_version("m", "1")
    assert {name: version.tags[name] for name in rule} == rule
    assert rule["generation_seeds"] == "0,1"
    assert rule["protocol.long"] != final.tags["protocol.long"]
    assert version.tags["fvd_long"] == "210.0"

    measured.calls.clear()
    assert "is this checkpoint already" in registry.promote(tracking, final).message
    assert not measured.calls, "every value is kept on its model"


def test_a_champion_of_fewer_clips_is_judged_as_its_challengers_are(tracking, plan, final, generator, measured):
    put_model(tracking, 0, 10, generator, latent_fd=1.0, fvd_long=1.0)
    registry.promote(tracking, plan)
    other = Tracking(final.with_fields(name="toy-2"))
    put_model(other, 1, 10, generator, latent_fd=50.0, fvd_long=50.0)
    measured |= {(0, 0): 100.0, (0, 1): 104.0, (1, 0): 90.0, (1, 1): 92.0}
    told = registry.promote(other, other.plan)
    assert told.version == "2"
    assert "the one before had 102" in told.message
    worse = Tracking(final.with_fields(name="toy-3"))
    put_model(worse, 2, 10, generator, latent_fd=50.0, fvd_long=0.5)
    measured |= {(2, 0): 90.5, (2, 1): 92.5}
    told = registry.promote(worse, worse.plan)
    assert told.version is None
    assert "against its 91, 0.5 short of it" in told.message
    assert measured.calls.count((1, 0)) == 1, "the champion's figure is of this rule already"


def test_a_judgement_that_was_cut_goes_on(tracking, final, generator, measured):
    put_model(tracking, 0, 10, generator, latent_fd=1.0, fvd_long=1.0)
    measured[0, 0] = 10.0
    with pytest.raises(KeyError):
        registry.promote(tracking, final)
    measured[0, 1] = 11.0
    assert registry.promote(tracking, final).fvd_long == 10.5
    assert measured.calls == [(0, 0), (0, 1), (0, 1)]


def test_values_of_other_codes_are_not_the_studys(tracking, final, generator, measured):
    put_model(tracking, 0, 10, generator, latent_fd=1.0, fvd_long=1.0)
    measured |= {(0, 0): 10.0, (0, 1): 11.0}
    (model,) = registry.best_models(tracking, final)
    FinalEvaluation(tracking, final).evaluate(model)
    digests = tuple({**final.tags, "latents": "l2"}.items())
    elsewhere = FinalEvaluation(tracking, final.with_fields(digests=digests))
    measured.calls.clear()
    elsewhere.evaluate(registry.best_models(tracking, final)[0])
    assert measured.calls == [(0, 0), (0, 1)]


def test_a_seeds_value_is_what_a_study_of_so_many_clips_logs(tracking, plan, generator):
    """With I3D itself."""
    model = put_model(tracking, 0, 10, generator, latent_fd=2.0, fvd_long=1.0)
    expected = registry.score_uri(plan, f"models:/{model}")["fvd_long"]
    finals = FinalEvaluation(tracking, plan.with_fields(promotion_seeds=2))
    first, second = finals.evaluate(tracking.client.get_logged_model(model)).values
    assert first == expected
    assert second != first


@pytest.mark.slow
def test_workers_on_two_nodes_choose_the_champion_by_the_figures_of_one_process(tracking, final, generator, tmp_path):
    """Each node has one CPU, so two pieces at a time are one on each; with I3D itself."""
    model = put_model(tracking, 0, 10, generator, latent_fd=2.0, latent_fd_best=2.0, fvd_long=1.0)
    final.save()
    tracking.client.log_artifact(tracking.parent_id(), str(tmp_path / "toy-1" / "study.json"))
    cluster, said, looked = Cluster(), tmp_path / "said", set()
    command = [sys.executable, "-m", "sweeps", "promote", "toy-1", "--tracking", final.output.tracking]
    command += ["--promotion-clips", "16", "--promotion-seeds", "1", "--workers", "2"]
    try:
        for count in (1, 2):  # raylets that start together may take one socket's name (docs/traps.md)
            cluster.add(1)
            cluster.until_cpus(count)
        environment = os.environ | cluster.environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with (
            said.open("wb") as out,
            subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=out, stderr=out) as driver,
        ):
            until = time.monotonic() + 400
            while driver.poll() is None and time.monotonic() < until:
                looked |= {number for number, node in enumerate(cluster.nodes) if node.runs("ray::extract")}
                time.sleep(0.2)
            driver.kill()
    finally:
        cluster.close()
    assert driver.returncode == 0, said.read_text()
    assert looked == {0, 1}
    assert "on 16 clips of one seed" in said.read_text()
    logged = tracking.client.get_logged_model(model)
    by_many = {metric.key: metric.value for metric in logged.metrics}
    alone = FinalEvaluation(tracking, final.with_fields(promotion_clips=16, promotion_seeds=1))
    assert by_many[f"fvd_long/{alone.protocol.hash}/generation-0"] == alone._measured(logged, 0)
