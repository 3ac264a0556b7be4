"""`python -m sweeps gc`: what no best-of list needs goes, nothing else does."""

from pathlib import Path

import made_studies as made
import pytest
from made_studies import refused, run_command

from sweeps import __main__ as commands
from sweeps.commands import gc
from sweeps.storage import driver_lock


def test_gc_frees_what_is_not_needed_and_nothing_else(capsys, study, here):
    made_study = study("a-study", "finished", "pruned", None, clips=0)
    models = {}
    for number, steps in ((0, (10, 20, 30)), (1, (10, 20)), (2, (10, 20))):
        for step in steps:
            models[number, step] = made.put_model(made_study, number, step, latent_fd=10.0 - step / 10)
    made.score_model(made_study, 0, models[0, 10], fvd_long=5.0)
    made.register(made_study, models[0, 20])
    folders = [made_study.train_folder(number) for number in range(3)]
    tune = here / "a-study" / "tune"
    (tune / "trial-0001").mkdir(parents=True)
    for name in ("tuner.pkl", "experiment_state-2026-11-22_01-27-37.json", "trial-0001/error.txt", "mine.txt"):
        (tune / name).write_text("12345")
    (here / "a-study" / "notes.txt").write_text("mine")
    before = sorted(here.rglob("*"))

    shown = run_command(capsys, "gc", "a-study", "--dry-run")
    assert sorted(here.rglob("*")) == before
    assert "give --yes" in refused(capsys, "gc", "a-study")
    assert sorted(here.rglob("*")) == before
    assert (
        shown.split("\nall")[1].split()[-2:]
        == run_command(capsys, "gc", "a-study", "--yes").split(": ")[-1].split()[:2]
    )

    assert [folder.exists() for folder in folders] == [False, False, True]
    assert sorted(path.name for path in tune.rglob("*") if path.is_file()) == ["error.txt", "mine.txt"]
    assert (here / "a-study" / "notes.txt").exists()
    kept = made.model_keys(made_study)
    # Trial 0: best FVD, registered, best latent FD. Trial 1: the best alone. Trial 2 is not over.
    assert kept == {(0, 10), (0, 20), (0, 30), (1, 20), (2, 10), (2, 20)}
    assert made.model_folders(here) == {models[key] for key in kept}
    assert "nothing to delete" in run_command(capsys, "gc", "a-study", "--yes")


def test_gc_works_behind_a_url(study):
    import fsspec

    made_study = study("a-study", "finished", None)
    plan = made_study.plan.with_fields(storage="memory://gc/runs")
    files = fsspec.filesystem("memory")
    kept = ["train-0001/state", "tune/trial-0000/error.txt"]
    for name in ["train-0000/checkpoint_1/state", "tune/tuner.pkl", *kept]:
        files.pipe_file(f"/gc/runs/a-study/{name}", b"1234")
    for entry in Path(made_study.plan.output.storage, "a-study", "record").iterdir():
        files.pipe_file(f"/gc/runs/a-study/record/{entry.name}", entry.read_bytes())
    items = list(gc.superfluous(plan, made_study.tracking))
    assert [(item.trial, item.bytes) for item in items] == [(0, 4), (None, 4)]
    for item in items:
        item.delete()
    left = [name for name in files.find("/gc/runs") if "/record/" not in name]
    assert left == [f"/gc/runs/a-study/{name}" for name in kept]


def test_gc_that_was_cut_is_run_again_and_mlflow_gc_takes_the_rest(capsys, study, here, monkeypatch):
    from mlflow import MlflowClient

    made_study = study("a-study", "finished", clips=0)
    first = made.put_model(made_study, 0, 10, latent_fd=3.0)
    made.put_model(made_study, 0, 20, latent_fd=2.0)

    def cut(client, model):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "delete_logged_model", cut)
        with pytest.raises(SystemExit):
            commands.main(["gc", "a-study", "--yes", "--storage", "."])
    assert made.model_keys(made_study) == {(0, 10), (0, 20)}
    run_command(capsys, "gc", "a-study", "--yes")
    assert made.model_keys(made_study) == {(0, 20)}
    assert first in made.run_mlflow_gc(made_study.plan.output.tracking)


def test_gc_leaves_a_living_study_alone(capsys, study):
    made_study = study("alive", "finished")
    folder = made_study.train_folder(0)
    with driver_lock.hold(made_study.plan):
        assert "is running it" in refused(capsys, "gc", "alive", "--yes")
    assert folder.exists()
