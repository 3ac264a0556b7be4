"""A sampler that begins with another study's finished trials: in the record, and no trials of the study."""

import shutil

import optuna
import pytest
from made_plan import PLAN
from optuna.distributions import FloatDistribution, IntDistribution, distribution_to_json
from played_tune import PlayedTune

from svgan.errors import UserError
from sweeps.record.entries import Ended, Warmed, from_json, to_json
from sweeps.record.state import StudyState
from sweeps.search.optuna_store import open_log, open_mirror
from sweeps.search.proposer import StudyRules
from sweeps.search.warm_start import warmed
from sweeps.storage.plan import Plan

METRIC = "latent_fd_best"


def space(trial):
    return {
        "x": trial.suggest_float("x", 0, 1),
        "width": trial.suggest_int("width", 8, 64),
        "kind": trial.suggest_categorical("kind", ["a", "b"]),
    }


def plan_of(folder, name, **change):
    places = {"storage": str(folder), "folder": str(folder / name), "name": name}
    plan = Plan.from_fields(PLAN | places | {"trials": 12, "controls": 0, "seed": len(name)} | change)
    plan.save()
    return plan


def drive(plan, trials=99, space=space):
    """A driver; the lowest figure is at x = 0.3. Trial 1 fails."""
    played, found = PlayedTune(plan, space), []
    for _ in range(min(trials, played.left)):
        given = played.suggest("t")
        found.append(given["params"])
        figure = {METRIC: abs(given["params"]["x"] - 0.3), "fvd_long": 1.0}
        failed = {"failed": "NonFiniteLoss"} if given["number"] == 1 else {"finished": True}
        played.on_trial_complete("t", {"step": 40, **figure, **failed})
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    plan = plan_of(tmp_path_factory.mktemp("made"), "other", trials=8)
    drive(plan)
    return plan


@pytest.fixture
def other(made, tmp_path):
    shutil.copytree(made.output.folder, tmp_path / "other")
    return plan_of(tmp_path, "other", trials=8)


@pytest.mark.parametrize("by", ["name", "folder"])
def test_the_sampler_sees_them_and_the_study_does_not_count_them(tmp_path, other, by):
    asked = "other"
    if by == "folder":
        asked = str(shutil.move(other.output.folder, tmp_path / "moved" / "other"))
    plan = plan_of(tmp_path, "study", warm_start=asked, trials=3)
    found = drive(plan)
    (entry,) = [entry for entry in open_log(plan).read() if isinstance(entry, Warmed)]
    assert (entry.study, len(entry.trials)) == ("other", 7), "the failed one is not among them"
    assert [trial.number for trial in open_mirror(plan).study.get_trials()] == [0, 1, 2]
    assert [trial.params for trial in open_mirror(plan).study.get_trials()] == found
    assert found != drive(plan_of(tmp_path, "stud2", trials=3)), "of the same seed, without a start"


def test_they_survive_the_other_study_and_a_crash(tmp_path, other):
    whole = drive(plan_of(tmp_path, "study", warm_start="other", trials=5))
    (tmp_path / "again").mkdir()
    shutil.copytree(other.output.folder, tmp_path / "again" / "other")
    plan = plan_of(tmp_path / "again", "study", warm_start="other", trials=5)
    found = drive(plan, trials=2)
    shutil.rmtree(tmp_path / "again" / "other")
    found += drive(plan)
    assert found == whole


def random_start(count):
    """The entry of a study with so many finished trials, drawn at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trials = []
    for _ in range(count):
        trial = study.ask()
        space(trial)
        kinds = {name: distribution_to_json(kind) for name, kind in trial.distributions.items()}
        trials.append({"point": trial.params, "distributions": kinds, "values": [abs(trial.params["x"] - 0.3)]})
    return Warmed(study="other", trials=trials)


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "gp"])
def test_a_driver_that_begins_at_any_trial_proposes_what_an_unbroken_one_does(tmp_path, sampler):
    plan = plan_of(tmp_path, "study", sampler=sampler, trials=4 if sampler == "gp" else 20)
    entries = [random_start(12)]
    state, unbroken, cold = StudyState(entries), StudyRules(plan, space), StudyState()
    assert unbroken.propose(state) != StudyRules(plan, space).propose(cold)
    for number in range(3 if sampler == "gp" else 20):
        proposal = unbroken.propose(state)
        assert proposal.number == number
        if number in (2, 9, 19):
            begun = StudyState(from_json(to_json(entry)) for entry in entries)
            assert StudyRules(plan, space).propose(begun) == proposal
        figures = {METRIC: abs(proposal.params["x"] - 0.3)}
        for entry in (proposal, Ended(number=number, ending="finished", figures=figures)):
            entries.append(entry)
            state.apply(from_json(to_json(entry)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"objectives": ("latent_fd", "fvd_long")}, "were judged by another metric"),
        ({"digests": (("domain", "d2"),)}, "were judged by another domain"),
        ({"digests": (("latents", "l2"),)}, "were judged by another set of codes"),
        ({"recipe": "small"}, "were judged by another recipe"),
        ({"warm_start": "none"}, "no such study"),
    ],
)
def test_a_study_that_cannot_be_compared_is_refused(tmp_path, other, change, told):
    plan = plan_of(tmp_path, "study", **({"warm_start": "other"} | change))
    with pytest.raises(UserError, match=told):
        warmed(plan, space)


def test_another_space_is_refused_and_a_study_without_a_finished_trial(tmp_path, other):
    plan = plan_of(tmp_path, "study", warm_start="other")
    for wrong in (
        {"x": [0.0, 1.0]},
        lambda trial: {"x": trial.suggest_float("x", 0, 1)},
        lambda trial: space(trial) | {"more": trial.suggest_float("more", 0, 1)},
        {"x": FloatDistribution(0, 1), "width": IntDistribution(8, 65), "kind": ["a", "b"]},
    ):
        with pytest.raises(UserError, match=r"^--warm-start other: its trial 0 is of another space; name a study that"):
            warmed(plan, wrong)
    drive(plan_of(tmp_path, "young"), trials=0)
    with pytest.raises(UserError, match=r"^--warm-start young: none of its trials has finished; finish it first"):
        warmed(plan.with_fields(warm_start="young"), space)


def test_a_start_too_small_for_cma_es_is_refused(tmp_path, other):
    plan = plan_of(tmp_path, "study", warm_start="other", sampler="cmaes")
    with pytest.raises(UserError, match=r"^--warm-start other: 7 of its trials have finished, and CMA-ES begins with"):
        warmed(plan, space)


def test_samplers_that_take_nothing_of_it_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"^--warm-start other: nsgaii proposes from .* use --sampler tpe, gp or cmaes$"
    ):
        plan_of(tmp_path, "study", warm_start="other", sampler="nsgaii")
    with pytest.raises(UserError, match=r"^--warm-start other: a grid's points are given"):
        plan_of(tmp_path, "study", warm_start="other", grid={"x": [0, 1]}, trials=2, controls=2)
