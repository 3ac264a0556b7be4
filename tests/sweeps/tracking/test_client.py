"""MLflow, a real one in a SQLite file: one run per trial, promotion, and loading the champion."""

import json
import tempfile
import threading
import time

import made_studies as made
import numpy as np
import pandas
import pytest
from made_tracking import put_model

from svgan.errors import UserError
from sweeps import __main__ as commands
from sweeps.promotion import model_store, registry
from sweeps.reports import trial_table
from sweeps.tracking.client import Tracking, one_at_a_time, open_experiment, sweep_models
from sweeps.tracking.trial_log import TrialLog


def test_a_trial_has_one_run_whoever_asks_and_however_often(tracking, plan):
    first = tracking.trial(3)
    again = Tracking(plan).trial(3)
    assert first == again
    run = tracking.client.get_run(first)
    assert run.data.tags["mlflow.parentRunId"] == tracking.parent_id()
    assert run.data.tags["latents"] == "l1"
    assert len(tracking.runs()) == 1
    tracking.params(first, {"gap_weight": 1.0, "trunk": [64, 128]})
    tracking.params(first, {"gap_weight": 1.0, "trunk": [64, 128]})
    assert tracking.client.get_run(first).data.params == {"gap_weight": "1.0", "trunk": "[64, 128]"}


def test_a_resumed_trial_logs_no_step_twice(tracking):
    TrialLog(tracking.plan, 0).metrics(10, {"latent_fd": 2.0, "phi": 0.5})
    again = TrialLog(tracking.plan, 0)
    again.metrics(10, {"latent_fd": 2.0, "phi": 0.5})
    again.metrics(20, {"latent_fd": 1.0, "phi": 0.6})
    points = tracking.client.get_metric_history(tracking.trial(0), "latent_fd")
    assert [(p.step, p.value) for p in points] == [(10, 2.0), (20, 1.0)]


def test_final_status_is_what_happened(tracking):
    for number, outcome in enumerate(("finished", "pruned", "failed")):
        TrialLog(tracking.plan, number).close(outcome, "disk full" if outcome == "failed" else None)
    runs = tracking.runs()
    assert [run.info.status for run in runs] == ["FINISHED", "KILLED", "FAILED"]
    assert runs[2].data.tags["error"] == "disk full"
    assert [row.status for row in trial_table.rows_of(runs)] == ["finished", "stopped", "failed"]


def test_a_model_is_logged_once_per_step_and_carries_its_metrics(tracking, generator):
    put_model(tracking, 0, 10, generator, latent_fd=2.0)
    TrialLog(tracking.plan, 0).model(10, generator, {}, {})
    models = sweep_models(tracking.client, tracking.experiment, tracking.plan.name)
    assert [registry.figure(model, "latent_fd") for model in models] == [2.0]
    assert not (generator / "MLmodel").exists()


def test_the_exported_generator_samples_as_the_whole_checkpoint(checkpoint_folder, generator):
    import torch

    from svgan.sampling.sampler import Sampler

    whole, part = (Sampler.load(folder).codes(2, 5, 0) for folder in (checkpoint_folder, generator))
    assert torch.equal(whole, part)
    size = {folder: (folder / "tensors.safetensors").stat().st_size for folder in (checkpoint_folder, generator)}
    assert size[generator] < 0.5 * size[checkpoint_folder]


def test_the_first_champion_is_the_best_model_of_all_trials(tracking, plan, generator):
    put_model(tracking, 0, 10, generator, latent_fd=2.0, fvd_long=300.0)
    best = put_model(tracking, 1, 20, generator, latent_fd=1.0, fvd_long=200.0)
    TrialLog(plan, 1).close("pruned")
    put_model(tracking, 1, 30, generator, latent_fd=1.5)
    told = registry.promote(tracking, plan)
    assert (told.version, told.trial, told.step, told.fvd_long) == ("1", 1, 20, 200.0)
    version = tracking.client.get_model_version_by_alias("m", "champion")
    assert version.source == f"models:/{best}"
    assert version.tags["protocol.long"] == "p1"


def test_only_a_lower_figure_replaces_the_champion(tracking, plan, generator):
    put_model(tracking, 0, 10, generator, latent_fd=2.0, fvd_long=200.0)
    registry.promote(tracking, plan)
    assert registry.promote(tracking, plan).version is None

    worse = Tracking(plan.with_fields(name="toy-2"))
    put_model(worse, 0, 10, generator, latent_fd=1.0, fvd_long=207.5)
    told = registry.promote(worse, worse.plan)
    assert told.version is None
    assert "7.5 short of it" in told.message
    assert str(registry.champion(tracking, "m").version) == "1"

    better = Tracking(plan.with_fields(name="toy-3"))
    put_model(better, 0, 10, generator, latent_fd=9.0, fvd_long=150.0)
    assert registry.promote(better, better.plan).version == "2"
    client = tracking.client
    assert str(client.get_model_version_by_alias("m", "champion").version) == "2"
    assert str(client.get_model_version_by_alias("m", "previous-champion").version) == "1"


def test_a_promotion_leaves_ended_runs_ended(tracking, plan, generator):
    """The best model is a pruned trial's, which has no FVD: it is measured, and its run stays KILLED."""
    parent = tracking.parent()
    put_model(tracking, 0, 10, generator, latent_fd=2.0, fvd_long=1e9)
    TrialLog(plan, 0).close("finished")
    put_model(tracking, 1, 20, generator, latent_fd=1.0)
    TrialLog(plan, 1).close("pruned")
    tracking.close("FINISHED")
    assert registry.promote(Tracking(plan), plan).trial == 1
    assert [run.info.status for run in tracking.runs()] == ["FINISHED", "KILLED"]
    assert tracking.client.get_run(parent).info.status == "FINISHED"


@pytest.mark.parametrize(
    "write",
    [
        lambda log, folder: log.metrics(10, {"latent_fd": 1.0}),
        lambda log, folder: log.model(10, folder, {}, {}),
        lambda log, folder: log.artifacts([folder / "state.json"]),
        lambda log, folder: log.figures(["latent_fd"]),
    ],
    ids=["metrics", "model", "artifacts", "figures"],
)
def test_only_a_trial_that_starts_opens_its_run_again(tracking, tmp_path, write):
    """A late write of a trial that has ended, or the flush of its outbox, must not leave its run open for ever."""
    TrialLog(tracking.plan, 0).close("pruned")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "state.json").write_text("{}")
    write(TrialLog(tracking.plan, 0), folder)
    assert [run.info.status for run in tracking.runs()] == ["KILLED"]
    TrialLog(tracking.plan, 0).open({"gap_weight": 1.0}, attempt=2)
    assert [run.info.status for run in tracking.runs()] == ["RUNNING"]


def test_a_study_is_opened_again_by_a_driver_that_begins_and_by_nobody_else(tracking, plan):
    parent = tracking.parent()
    tracking.close("FINISHED")
    assert Tracking(plan).parent_id() == parent
    Tracking(plan).trial(0)
    assert tracking.client.get_run(parent).info.status == "FINISHED"
    assert Tracking(plan).parent() == parent
    assert tracking.client.get_run(parent).info.status == "RUNNING"


def test_a_candidate_without_fvd_is_scored_first(tracking, plan, generator):
    put_model(tracking, 0, 10, generator, latent_fd=2.0, fvd_long=1e9)
    put_model(tracking, 1, 20, generator, latent_fd=1.0)
    told = registry.promote(tracking, plan)
    assert (told.trial, told.step) == (1, 20)
    assert 0 < told.fvd_long < 1e9
    logged = tracking.runs()[1].data.metrics
    assert logged["fvd_long"] == told.fvd_long
    assert logged["fvd_short"] > 0


def test_a_champion_of_another_protocol_is_measured_again(tracking, plan, generator):
    put_model(tracking, 0, 10, generator, latent_fd=2.0, fvd_long=0.001)
    registry.promote(tracking, plan)
    digests = tuple({**plan.tags, "protocol.long": "p2"}.items())
    other = Tracking(plan.with_fields(name="toy-2", digests=digests))
    put_model(other, 0, 10, generator, latent_fd=1.0, fvd_long=1e9)
    told = registry.promote(other, other.plan)
    assert told.version is None
    assert "against its" in told.message
    assert "against its 0.001" not in told.message


def test_a_champion_of_another_domain_is_not_compared(tracking, plan, generator):
    put_model(tracking, 0, 10, generator, latent_fd=2.0, fvd_long=200.0)
    registry.promote(tracking, plan)
    tracking.client.set_model_version_tag("m", "1", "domain", "another")
    other = Tracking(plan.with_fields(name="toy-2"))
    put_model(other, 0, 10, generator, latent_fd=1.0, fvd_long=100.0)
    with pytest.raises(UserError, match="another domain"):
        registry.promote(other, other.plan)


def test_without_models_or_without_fvd_there_is_no_promotion(tracking, plan):
    with pytest.raises(UserError, match="no model was logged"):
        registry.promote(tracking, plan)
    with pytest.raises(UserError, match="--clips 0"):
        registry.promote(tracking, plan.with_fields(clips=0))


def test_the_champion_loads_by_its_alias_and_gives_frames(tracking, plan, generator):
    import mlflow

    put_model(tracking, 0, 10, generator, latent_fd=2.0, fvd_long=200.0)
    registry.promote(tracking, plan)
    model = mlflow.pyfunc.load_model("models:/m@champion")
    frames = model.predict({"clips": 2, "frames": 3, "seed": 5})
    assert frames.shape == (2, 3, 16, 16, 3)
    assert frames.dtype == np.uint8
    table_asked = pandas.DataFrame([{"clips": 2, "frames": 3, "seed": 5}])
    assert np.array_equal(model.predict(table_asked), frames)
    assert not np.array_equal(model.predict({"clips": 2, "frames": 3, "seed": 6}), frames)
    for bad in ({"clip": 1}, {"clips": 0}):
        with pytest.raises(UserError, match="predict"):
            model.predict(bad)


def test_nothing_in_a_logged_model_can_hold_code(tracking, plan, generator, tmp_path):
    model = put_model(tracking, 0, 10, generator, latent_fd=2.0)
    with model_store.downloaded(plan.output.tracking, f"models:/{model}") as folder:
        assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {"", ".json", ".safetensors"}
        assert "loader_module: sweeps.champion_loader" in (folder / "MLmodel").read_text()


def test_promote_by_command(tracking, plan, generator, tmp_path, capsys):
    put_model(tracking, 0, 10, generator, latent_fd=2.0, latent_fd_best=2.0, fvd_long=200.0)
    plan.save()
    tracking.client.log_artifact(tracking.parent_id(), str(tmp_path / "toy-1" / "study.json"))
    commands.main(["promote", "toy-1", "--tracking", plan.output.tracking, "--model", "by-hand"])
    assert "models:/by-hand@champion is now version 1: trial 0, step 10, FVD long 200" in capsys.readouterr().out


def test_a_server_that_does_not_answer_or_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="MLflow is not reachable"):
        open_experiment("http://127.0.0.1:9", "svgan")
    with pytest.raises(UserError, match="MLflow cannot be used"):
        open_experiment(f"sqlite:///{tmp_path}/file/mlflow.db", "svgan")
    (tmp_path / "mlflow.db").write_text(json.dumps({}) * 200)
    with pytest.raises(UserError, match="MLflow cannot be used"):
        open_experiment(f"sqlite:///{tmp_path}/mlflow.db", "svgan")


def test_a_study_that_cannot_promote_has_ended_well_all_the_same(tracking, plan, generator, capsys):
    """A champion of an earlier domain stays, and a finished study is not turned into a failed one by it."""
    from sweeps.driver.conclude import conclude
    from sweeps.record.entries import Proposed
    from sweeps.search.optuna_store import open_log

    put_model(tracking, 0, 10, generator, latent_fd=2.0, fvd_long=200.0)
    registry.promote(tracking, plan)
    tracking.client.set_model_version_tag("m", "1", "domain", "another")
    other = Tracking(plan.with_fields(name="toy-2"))
    put_model(other, 0, 10, generator, latent_fd=1.0, fvd_long=100.0)
    TrialLog(other.plan, 0).close("finished")
    record = open_log(other.plan, "made")
    record.read()
    record.append(Proposed(number=0, params={}))
    made.end(record, 0, "finished")
    assert conclude(other.plan) is None
    shown = capsys.readouterr().out
    assert "no promotion: models:/m@champion: version 1 is of another domain" in shown
    assert "mlflow ui --backend-store-uri sqlite:///" in shown


def test_one_process_at_a_time_opens_a_database_and_no_lock_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    inside, most = [], []

    def hold():
        for _ in range(20):
            with one_at_a_time("sqlite:///mlflow.db"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_may_make_the_database_together(tmp_path):
    import os
    import subprocess
    import sys

    code = "from sweeps.tracking.client import open_experiment; "
    code += f"print(open_experiment('sqlite:///{tmp_path}/new.db', 'x')[1])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=300)[0].split()[-1] for process in both] == ["1", "1"]
