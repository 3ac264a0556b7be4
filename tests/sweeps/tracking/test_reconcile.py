"""What MLflow says otherwise than a study's record is found and mended: in plain data, and in a real MLflow."""

import made_studies as made
import pytest

from svgan.io import storage
from sweeps.record.endings import endings, reasons
from sweeps.search.optuna_store import read_record
from sweeps.storage import study_files
from sweeps.storage.tag_names import OUTCOME, ROLE, SWEEP, TRIAL
from sweeps.tracking import reconcile
from sweeps.tracking.client import models_of
from sweeps.tracking.mlflow_state import SET_ASIDE, MlflowState, comparison
from sweeps.tracking.outbox import Entry, Outbox
from sweeps.tracking.reconcile import Model, Run, Seen, compare
from sweeps.tracking.trial_log import TrialLog


def kinds(*asked, **more):
    return [(one.kind, one.trial) for one in compare(*asked, **more)]


FINISHED = Run("r0", 0, "FINISHED", "finished")


def test_where_all_agree_nothing_is_said():
    runs = [
        FINISHED,
        Run("r1", 1, "KILLED", "pruned"),
        Run("r2", 2, "FAILED", "failed"),
        Run("r3", 3, "KILLED", "halted"),
        Run("r4", 4, "RUNNING"),
        Run("r5", 5, "RUNNING", "halted"),  # it goes on
        Run("r6", 6, "KILLED", "halted"),  # it will go on, and nobody has opened its run yet
    ]
    record = dict(enumerate(["finished", "pruned", "failed", "halted", None, None, None, None]))
    models = [Model("m0", 0, 10, "", "READY"), Model("m1", 0, 10, "7", "READY"), Model("m2", 0, 20, "", "READY")]
    assert compare(Seen(("p", "KILLED"), runs, models), record) == []


@pytest.mark.parametrize(
    ("run", "ending", "kind"),
    [
        (Run("r", 0, "RUNNING"), "finished", "open run"),
        (Run("r", 0, "RUNNING"), "pruned", "open run"),
        (Run("r", 0, "RUNNING", "halted"), "failed", "open run"),
        (Run("r", 0, "RUNNING"), "halted", "open run"),
        (Run("r", 0, "KILLED", "pruned"), "finished", "another outcome"),
        (Run("r", 0, "KILLED", "halted"), "pruned", "another outcome"),
        (Run("r", 0, "FINISHED", "finished"), None, "another outcome"),
        (Run("r", 0, "KILLED", "pruned"), None, "another outcome"),
        (Run("r", 0, "FINISHED"), "finished", "another outcome"),
        (Run("r", 0, "KILLED", "failed"), "failed", "another outcome"),
        (None, "finished", "trial without a run"),
    ],
)
def test_a_run_that_does_not_say_how_its_trial_ended(run, ending, kind):
    assert kinds(Seen(runs=[run] if run else []), {0: ending}) == [(kind, 0)]


def test_a_study_is_open_only_while_a_driver_lives():
    seen = Seen(study=("p", "RUNNING"))
    assert kinds(seen, {}) == [("open study", None)]
    assert kinds(seen, {}, "this process") == kinds(seen, {}, "another process") == []


def test_what_mlflow_has_of_an_unrecorded_trial_and_of_a_trial_twice():
    runs = [FINISHED, Run("later", 0, "RUNNING", began=5), Run("r9", 9, "RUNNING")]
    models = [Model("m9", 9, 10, "", "READY"), Model("m8", 9, 20, "", "READY", registered=True)]
    assert kinds(Seen(runs=runs, models=models), {0: "finished"}) == [
        ("two runs", 0),
        ("run without a trial", 9),
        ("model without a trial", 9),
    ]


def test_of_models_of_one_step_the_registered_one_is_kept_then_the_whole_one_then_the_first():
    def mends(*models):
        return [one.mend for one in compare(Seen(runs=[FINISHED], models=models), {0: "finished"})]

    first, second = Model("b", 0, 10, "", "READY", made=1), Model("a", 0, 10, "", "READY", made=2)
    assert mends(second, first) == [("merge_model", ("b", "a"))]
    pending = Model("c", 0, 10, "", "PENDING", made=0)
    assert mends(pending, first) == [("delete_model", ("c",))]
    assert mends(pending) == [("delete_model", ("c",))]
    registered = Model("d", 0, 10, "", "READY", registered=True, made=9)
    assert mends(first, registered) == [("merge_model", ("d", "b"))]
    other = Model("e", 0, 10, "", "READY", registered=True, made=8)
    assert mends(other, registered) == []


def test_of_a_trial_whose_writes_wait_nothing_else_is_said_yet():
    seen = Seen(runs=[Run("r", 0, "RUNNING")], waiting={0: 3})
    assert kinds(seen, {0: "finished"}) == [("waiting writes", 0)]


def test_while_another_driver_runs_only_ended_trials_are_judged():
    runs = [Run("r0", 0, "RUNNING"), Run("r1", 1, "KILLED", "pruned"), Run("r2", 2, "RUNNING")]
    models = [Model("m1", 1, 10, "", "PENDING")]
    seen = Seen(("p", "RUNNING"), runs, models, waiting={1: 2})
    assert kinds(seen, {0: "finished", 1: None}, "another process") == [("open run", 0)]


class Broken:
    """Something whose mend does not help."""

    def close_run(self, *asked):
        pass


def test_a_mend_that_does_not_help_is_tried_once_and_said():
    seen = Seen(runs=[Run("r", 0, "RUNNING")])
    mended, left = reconcile.settle([reconcile.Comparison(lambda: compare(seen, {0: "finished"}), Broken())])
    assert (mended, [one.kind for one in left]) == ([], ["open run"])


# A real MLflow.


def compared(study, driver="none"):
    state = read_record(study.plan)
    return comparison(study.plan, study.tracking, endings(state), driver, reasons(state))


def settled(study, driver="none"):
    """The kinds of what was mended; nothing is left, and mending again changes nothing."""
    mended, left = reconcile.settle([compared(study, driver)])
    assert left == []
    assert compared(study, driver).find() == []
    return [(one.kind, one.trial) for one in mended]


def statuses(study):
    return [(run.info.status, run.data.tags.get(OUTCOME)) for run in study.tracking.runs()]


def test_open_runs_of_ended_trials_are_closed_as_they_ended(study):
    """A driver that died between Optuna's `tell` and the end of MLflow's run."""
    made_study = study("a-study", "finished", "pruned", "failed", None)
    made_study.tracking.close("FINISHED")
    for run in made_study.tracking.runs():
        made_study.tracking.client.update_run(run.info.run_id, status="RUNNING")
    storage.write(study_files.place(made_study.plan, "usage", "000000", "1"), b"7200")
    assert settled(made_study) == [("open run", 0), ("open run", 1), ("open run", 2)]
    assert statuses(made_study)[:3] == [("FINISHED", "finished"), ("KILLED", "pruned"), ("FAILED", "failed")]
    assert statuses(made_study)[3] == ("RUNNING", None)
    metrics = [run.data.metrics for run in made_study.tracking.runs()]
    assert metrics[0]["core_hours"] == 2.0
    assert "core_hours" not in metrics[1]


def test_a_study_left_open_by_its_driver_is_closed(study):
    made_study = study("a-study", "finished")
    assert settled(made_study) == [("open study", None)]
    run = made_study.tracking.client.get_run(made_study.tracking.parent_id())
    assert run.info.status == "KILLED"


def test_a_trial_without_a_run_gets_one_with_its_outcome(study):
    made_study = study("a-study", "finished", "failed")
    made_study.tracking.close("FINISHED")
    for run in made_study.tracking.runs():
        made_study.tracking.client.delete_run(run.info.run_id)
    assert settled(made_study) == [("trial without a run", 0), ("trial without a run", 1)]
    assert statuses(made_study) == [("FINISHED", "finished"), ("FAILED", "failed")]


def test_what_counts_to_no_recorded_trial_is_set_aside(study):
    made_study = study("a-study", "finished")
    tracking = made_study.tracking
    tracking.close("FINISHED")
    run_id = tracking.trial(5)
    made.put_model(made_study, 5, 10, latent_fd=1.0)
    assert settled(made_study) == [("run without a trial", 5), ("model without a trial", 5)]
    assert len(tracking.runs()) == 1
    run = tracking.client.get_run(run_id)
    assert (run.data.tags[ROLE], run.info.status) == (SET_ASIDE, "KILLED")
    assert TrialLog(made_study.plan, 5).link() == ""
    assert tracking.trial(5) != run_id, "a later trial of this number begins anew"


def test_two_runs_become_one_with_the_figures_and_files_of_both(study, tmp_path):
    made_study = study("a-study", "finished")
    tracking, client = made_study.tracking, made_study.tracking.client
    tracking.close("FINISHED")
    first = tracking.trial(0)
    keys = {SWEEP: made_study.plan.name, ROLE: "trial", TRIAL: "0"}
    later = client.get_run(first).info.start_time + 1000
    second = client.create_run(tracking.experiment, start_time=later, tags=keys).info.run_id
    client.log_metric(second, "latent_fd", 99.0, step=10)
    client.log_metric(second, "latent_fd", 0.5, step=50)
    client.log_param(second, "batch", "8")
    client.log_param(second, "width", "64")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.gif").write_text("a")
    client.log_artifacts(second, str(tmp_path / "clips"), "clips")
    client.log_artifact(second, str(tmp_path / "clips" / "a.gif"))
    assert settled(made_study) == [("two runs", 0)]
    (run,) = tracking.runs()
    assert run.info.run_id == first
    points = {point.step: point.value for point in client.get_metric_history(first, "latent_fd")}
    assert points == {10: 2.1, 20: 2.2, 30: 2.3, 40: 2.4, 50: 0.5}
    assert (run.data.params["batch"], run.data.params["width"]) == ("8", "32")
    assert [item.path for item in client.list_artifacts(first)] == ["a.gif", "clips"]
    assert [item.path for item in client.list_artifacts(first, "clips")] == ["clips/a.gif"]
    assert client.get_run(second).data.tags[ROLE] == SET_ASIDE


def test_of_models_one_a_step_is_left_whole_and_with_all_figures(study):
    made_study = study("a-study", "finished")
    tracking, client = made_study.tracking, made_study.tracking.client
    tracking.close("FINISHED")
    first = made.put_model(made_study, 0, 10, latent_fd=2.0)
    second = made.put_model(made_study, 0, 10, latent_fd=2.0, fvd_long=55.0)
    keys = {SWEEP: made_study.plan.name, TRIAL: "0", "svgan.step": "20"}
    client.create_logged_model(tracking.experiment, source_run_id=tracking.trial(0), tags=keys)
    assert sorted(settled(made_study)) == [("two models", 0), ("unfinished model", 0)]
    (model,) = models_of(client, tracking.experiment, made_study.plan.name)
    assert model.model_id == first
    assert sorted((figure.key, figure.value) for figure in model.metrics) == [("fvd_long", 55.0), ("latent_fd", 2.0)]
    assert made.model_folders(tracking_folder(made_study)) == {first}
    assert second not in made.model_folders(tracking_folder(made_study))


def tracking_folder(study):
    from pathlib import Path

    return Path(study.plan.output.tracking.removeprefix("sqlite:///")).parent


def test_a_registered_model_is_never_deleted(study):
    made_study = study("a-study", "finished")
    tracking = made_study.tracking
    tracking.close("FINISHED")
    made.put_model(made_study, 0, 10, latent_fd=2.0)
    second = made.put_model(made_study, 0, 10, latent_fd=2.0)
    made.register(made_study, second)
    assert settled(made_study) == [("two models", 0)]
    assert [m.model_id for m in models_of(tracking.client, tracking.experiment, "a-study")] == [second]


def test_waiting_writes_are_sent_and_what_was_behind_them_is_mended(study):
    made_study = study("a-study", "finished")
    tracking = made_study.tracking
    tracking.close("FINISHED")
    Outbox(made_study.plan, 0).put(Entry("open", {"params": {}, "attempt": 2}))
    assert settled(made_study) == [("waiting writes", 0), ("open run", 0)]
    assert statuses(made_study) == [("FINISHED", "finished")]


def test_a_real_mlflow_is_read_as_plain_data(study):
    made_study = study("a-study", "finished", None)
    model = made.put_model(made_study, 0, 10, latent_fd=2.0)
    made.register(made_study, model)
    seen = MlflowState(made_study.plan, made_study.tracking).seen()
    assert seen.study == (made_study.tracking.parent_id(), "RUNNING")
    assert [(run.trial, run.status, run.outcome) for run in seen.runs] == [
        (0, "FINISHED", "finished"),
        (1, "RUNNING", None),
    ]
    (one,) = seen.models
    assert (one.id, one.trial, one.step, one.seed, one.status, one.registered) == (model, 0, 10, "", "READY", True)
