"""Studies of a seeded world, in which drivers, workers and services fail at any effect (docs/faults.md)."""

import pytest
from simulated_models import OptunaModel
from simulated_studies import Shape, Study, agreed, check, replayed, summary
from simulated_world import World

from sweeps.record.core import Core
from sweeps.record.entries import Driven, Reported
from sweeps.record.log import Log, Superseded

SEEDS, PARTS = 1000, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_fails_the_study_ends_right(part):
    """Records agree, nothing is there twice, nothing is lost, and every decision follows from the record before it.

    A failing seed is run again by `python tests/simulation/run.py --seed N`.
    """
    lives = 0
    for seed in range(part, SEEDS, PARTS):
        try:
            lives += check(seed).lives
        except Exception as error:
            raise AssertionError(f"python tests/simulation/run.py --seed {seed}: {error!r}") from error
    assert lives > 5 * SEEDS / PARTS, "the world failed too rarely to show anything"


@pytest.mark.parametrize("shape", [Shape(trials=4), Shape(trials=4, searched=False, concurrency=2)])
def test_a_crash_at_every_single_effect_of_the_driver(shape):
    calm = Study(shape, World(7))
    undisturbed = summary(calm.run())
    effects = calm.world.driver_effects
    assert effects > 100
    for effect in range(1, effects + 1):
        study = Study(shape, World(7, crash_at=effect))
        state = study.run()
        agreed(study, state)
        replayed(study)
        assert (study.lives, summary(state)) == (2, undisturbed), f"effect {effect}"


def test_a_driver_that_was_replaced_changes_nothing_any_more():
    """Its host hung or lost its network, and came back after another driver had taken the study over."""
    study = Study(Shape(trials=4, searched=False, concurrency=2), World(1))
    study.lives = 1
    first = study.core()
    trials = [first.next(), first.next()]
    study.lives = 2
    second = study.core()
    optuna, mlflow = len(study.optuna.trials), [dict(run) for run in study.mlflow.runs]
    for act in (
        lambda: first.report(trials[0].number, 10, 0.5),
        lambda: first.end(trials[1].number, "failed", reason="late"),
        first.next,
    ):
        with pytest.raises(Superseded, match="another driver has taken this study over"):
            act()
    assert len(study.optuna.trials) == optuna
    assert [dict(run) for run in study.mlflow.runs] == mlflow
    assert second.next().number == 0


def test_a_storage_that_loses_a_write_is_found_out():
    """It said that entries were written and has lost one: a gap is an error that names the file, never a guess."""
    study = Study(Shape(trials=3, searched=False), World(2))
    study.run()
    folder = study.files.folders["study/record"]
    del folder["000000000009.json"]
    with pytest.raises(Exception, match=r"study/record/000000000009.json: it is missing, and a later one is there"):
        Log("study/record", study.files, "reader").read()


def test_a_lost_last_entry_is_decided_again_and_optuna_follows():
    """The last entry is gone without a trace; Optuna has what it said. What is decided again is the same."""
    study = Study(Shape(trials=3, searched=False), World(2))
    whole = summary(study.run())
    folder = study.files.folders["study/record"]
    lost = folder.pop(max(name for name in folder if name.endswith(".json")))
    assert b'"ended"' in lost
    study.optuna = OptunaModel(study.world)
    assert summary(study.run()) == whole


def test_a_study_grows():
    study = Study(Shape(trials=4), World(3))
    first = summary(study.run())
    study.shape = Shape(trials=7)
    study.world.calm = False
    state = study.run()
    assert summary(state)[:4] == first
    assert len(state.trials) == 7
    agreed(study, state)
    replayed(study)


def test_many_entries_are_read_from_packs(monkeypatch):
    monkeypatch.setattr("sweeps.record.log.PACK", 16)
    study = Study(Shape(trials=12), World(4, faults=0.02))
    state = study.run()
    agreed(study, state)
    folder = study.files.folders["study/record"]
    packs = sorted(name for name in folder if name.startswith("packed-"))
    assert len(packs) >= 3
    entries = Log("study/record", study.files, "reader").read()
    folder[packs[-1]] = folder[packs[-1]][:100]
    assert Log("study/record", study.files, "reader").read() == entries, "a torn pack is not needed"


def test_a_report_is_judged_once_however_often_it_comes():
    study = Study(Shape(trials=2, searched=False, concurrency=2), World(5))
    core: Core = study.core()
    trial = core.next()
    for value in (3.0, 9.0):
        core.report(trial.number, 10, value)
    core.report(trial.number, 20, float("inf"))
    entries = Log("study/record", study.files, "reader").read()
    assert [e for e in entries if isinstance(e, Reported)] == [Reported(number=0, step=10, value=3.0)]
    assert isinstance(entries[0], Driven)
