"""A driver dies at exactly one of its effects, whichever it is; resumed, the study is one that nothing happened to.

The effects of an undisturbed study are counted first (`driver_effects`). make test-long tries them all, resumable by
the tests' ids; make test-all tries two, chosen by the day.
"""

import datetime
import random
from typing import NamedTuple

import pytest
from harness import SMALL, Sweep, figures
from optuna.trial import TrialState

from sweeps.record.state import StudyState
from sweeps.search.optuna_store import open_log, open_mirror
from sweeps.tracking.client import Tracking, sweep_models

STEPS, EVERY, TRIALS = 16, 8, 2
FLAGS = ("--steps", str(STEPS), "--clips", "0", "--concurrency", "1", "--grid", "gap_weight=0,100", *SMALL)
MOST = 150  # more effects than the study has; those that it does not have are skipped
BOTH = {"TOY_REPORTS": str(STEPS // EVERY), "TOY_PACE": "0"}


class Whole(NamedTuple):
    """The undisturbed study: the names of its driver's effects in their order, and what it left."""

    effects: list[str]
    left: dict


@pytest.fixture(scope="session")
def whole(footage, tmp_path_factory):
    folder = tmp_path_factory.mktemp("every-effect")
    sweep = Sweep(folder, footage[0], "--name", "hurt", *FLAGS, environment=BOTH | {"TOY_EFFECTS": f"{folder}/effects"})
    sweep.end()
    return Whole((folder / "effects").read_text().splitlines(), what_is_left(sweep.plan))


def what_is_left(plan):
    """Figures of every trial, its reports, and how often MLflow has a thing; record and Optuna agree, or it raises."""
    state, tracking = StudyState(open_log(plan).read()), Tracking(plan)
    mirror = open_mirror(plan)
    assert mirror.reconcile(state) == [], "Optuna and the record disagree"
    runs, models = tracking.runs(), sweep_models(tracking.client, tracking.experiment, plan.name)
    versions = tracking.client.search_model_versions(f"name = '{plan.output.model}'")
    return {
        "figures": figures(plan),
        "trials": [(t.proposal.params, t.reports, t.ending, t.ended and t.ended.figures) for t in state.trials],
        "optuna": [trial.state for trial in mirror.study.get_trials()],
        "runs": [(run.info.status, run.data.tags["svgan.outcome"]) for run in runs],
        "study": tracking.client.get_run(tracking.parent_id()).info.status,
        "models": sorted((m.tags["svgan.trial"], m.tags["svgan.step"]) for m in models),
        "versions": len(versions),
    }


def dies_and_goes_on(whole, number, domain, folder):
    """The study whose driver dies before effect `number`, and then the same command again or --resume."""
    if number > len(whole.effects):
        pytest.skip(f"the study has {len(whole.effects)} effects")
    print(f"effect {number} of {len(whole.effects)}: {whole.effects[number - 1]}")
    hurt = BOTH | {"TOY_EFFECTS": f"{folder}/effects", "TOY_DIES_AT": str(number)}
    sweep = Sweep(folder, domain, "--name", "hurt", *FLAGS, environment=hurt)
    sweep.end(code=-9)
    kept = (folder / "runs" / "hurt" / "study.json").exists()
    again = ("--resume", "hurt") if kept else ("--name", "hurt", *FLAGS)
    sweep = Sweep(folder, domain, *again, environment=BOTH)
    sweep.end()
    assert what_is_left(sweep.plan) == whole.left


@pytest.mark.slow
def test_a_driver_that_dies_at_an_effect_of_the_day_leaves_nothing_undone(whole, footage, tmp_path):
    seed = datetime.datetime.now(datetime.UTC).date().toordinal()
    numbers = random.Random(seed).sample(range(1, len(whole.effects) + 1), 2)
    for number in numbers:
        print(f"seed {seed}: python -m pytest -m long tests/faults/test_every_effect.py -k 'effect-{number:03d}'")
        (tmp_path / str(number)).mkdir()
        dies_and_goes_on(whole, number, footage[0], tmp_path / str(number))


@pytest.mark.long
@pytest.mark.parametrize("number", range(1, MOST + 1), ids="effect-{:03d}".format)
def test_a_driver_that_dies_at_any_effect_leaves_nothing_undone(whole, footage, tmp_path, number):
    dies_and_goes_on(whole, number, footage[0], tmp_path)


@pytest.mark.slow
def test_the_study_is_finished_and_its_effects_are_of_every_kind(whole):
    assert whole.left["optuna"] == [TrialState.COMPLETE] * TRIALS
    assert whole.left["runs"] == [("FINISHED", "finished")] * TRIALS
    assert {name.partition(".")[0] for name in whole.effects} == {"Plan", "storage", "RDBStorage", "MlflowClient"}
