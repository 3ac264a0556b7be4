"""One contract over every storage that Optuna's record may live in, and how each of them is opened and refused."""

import concurrent.futures
import time
from pathlib import Path

import optuna
import pytest
from made_plan import PLAN
from optuna.trial import TrialState
from played_tune import PlayedTune
from postgres_server import postgres, postgres_server  # noqa: F401  (fixtures)
from ray.tune.search import Searcher

from svgan.errors import UserError
from sweeps.search.optuna_mirror import reports
from sweeps.search.optuna_store import check_record, location, open_log, open_mirror, open_study
from sweeps.storage.plan import Plan
from sweeps.storage.plan_parts import JOURNAL

METRIC = "latent_fd_best"
CONTROLS = [{"x": 0.0}, {"x": 1.0}]


def space(trial):
    return {"x": trial.suggest_float("x", 0, 1)}


def searcher_on(plan, **change):
    return PlayedTune(plan, space, CONTROLS, **change)


def trials_in(plan):
    """As `optuna-dashboard` sees them."""
    return open_mirror(plan).study.get_trials()


def states(plan):
    kept, recorded = trials_in(plan), open_study(plan).get_trials()
    assert [(t.state, t.values, t.params, t.user_attrs) for t in kept] == [
        (t.state, t.values, t.params, t.user_attrs) for t in recorded
    ]
    return [trial.state.name for trial in kept]


@pytest.fixture(params=["sqlite", JOURNAL, pytest.param("postgresql", marks=pytest.mark.slow)])
def plan(request, tmp_path):
    """A study of five trials, kept in each storage in turn."""
    kept = {"sqlite": "", JOURNAL: JOURNAL}
    url = kept[request.param] if request.param in kept else request.getfixturevalue("postgres")
    Path(tmp_path, "toy-1").mkdir()
    places = {"storage": str(tmp_path), "folder": str(tmp_path / "toy-1")}
    return Plan.from_fields(PLAN | places | {"trials": 5, "optuna": url})


class TestEveryStorage:
    def test_each_end_is_told_as_it_was(self, plan):
        searcher = searcher_on(plan)
        for name in "abcde":
            searcher.suggest(name)
        searcher.on_trial_result("a", {"step": 10, METRIC: 3.0})
        searcher.on_trial_complete("a", {"step": 20, METRIC: 2.0, "finished": True})
        searcher.on_trial_result("b", {"step": 10, METRIC: 4.0})
        searcher.on_trial_complete("b", {"step": 20, METRIC: 3.5})
        searcher.on_trial_complete("c", {"failed": "NonFiniteLoss: critic_loss is nan at step 7"})
        searcher.on_trial_complete("d", error=True)
        searcher.on_trial_result("e", {"step": 10, METRIC: 1.5})
        searcher.on_trial_complete("e", {"step": 13, "halted": True})
        trials = trials_in(plan)
        assert states(plan) == ["COMPLETE", "PRUNED", "FAIL", "WAITING", "WAITING"]
        assert trials[0].value == 2.0
        assert [reports(trial) for trial in trials] == [{10: 3.0, 20: 2.0}, {10: 4.0, 20: 3.5}, {}, {}, {10: 1.5}]
        assert trials[2].user_attrs["error"] == "NonFiniteLoss: critic_loss is nan at step 7"
        assert searcher_on(plan).left == 2, "a trial whose process died goes on at --resume, as one that was halted"

    def test_controls_come_first_and_once(self, plan):
        first = searcher_on(plan)
        given = [first.suggest(name) for name in "abc"]
        assert [g["params"] for g in given[:2]] == CONTROLS
        assert [g["control"] for g in given] == [True, True, False]
        assert searcher_on(plan).left == 5
        assert len(open_study(plan).get_trials()) == 3
        assert len(trials_in(plan)) == 3

    def test_what_a_killed_driver_left_is_handed_out_first_under_its_number(self, plan):
        first = searcher_on(plan)
        given = [first.suggest(name) for name in "abc"]
        first.on_trial_complete("a", {"step": 9, METRIC: 1.0, "finished": True})
        second = searcher_on(plan)
        assert [t.number for t in second.core.state.unfinished()] == [1, 2]
        assert [second.suggest("x"), second.suggest("y")] == given[1:]
        assert [second.suggest("z")["number"], second.suggest("w")["number"]] == [3, 4]
        assert second.suggest("v") == Searcher.FINISHED

    def test_a_halted_trial_goes_on_with_its_parameters_and_reports(self, plan):
        first = searcher_on(plan, stopping=lambda: bool(halted))
        halted = []
        given = [first.suggest(name) for name in "abc"]
        first.on_trial_result("c", {"step": 10, METRIC: 3.0})
        halted.append(True)
        for name in "abc":
            first.on_trial_complete(name, {"step": 12, "halted": True})
        assert first.suggest("d") == Searcher.FINISHED
        assert states(plan) == ["WAITING"] * 3
        second = searcher_on(plan)
        assert second.left == 5
        assert [second.suggest(name) for name in "xyz"] == given
        assert states(plan) == ["RUNNING"] * 3
        second.on_trial_result("z", {"step": 10, METRIC: 99.0})
        second.on_trial_complete("z", {"step": 20, METRIC: 2.0, "finished": True})
        assert reports(second.study.get_trials()[2]) == {10: 3.0, 20: 2.0}

    def test_a_whole_study_leaves_nothing_running(self, plan):
        searcher = searcher_on(plan, concurrency=2)
        for number in range(5):
            assert searcher.suggest(f"t{number}")["number"] == number
            searcher.on_trial_complete(f"t{number}", {"step": 9, METRIC: 1.0 + number, "finished": True})
        assert searcher.suggest("more") == Searcher.FINISHED
        assert states(plan) == ["COMPLETE"] * 5
        again = searcher_on(plan)
        assert again.left == 0
        assert again.suggest("more") == Searcher.FINISHED

    def test_the_rungs_come_back_from_the_record(self, plan):
        searcher = searcher_on(plan)
        for name, value in (("a", 1.0), ("b", 2.0)):
            searcher.suggest(name)
            searcher.on_trial_result(name, {"step": 10, METRIC: value})
        assert [reports(trial) for trial in trials_in(plan)] == [{10: 1.0}, {10: 2.0}]
        assert [trial.reports for trial in searcher_on(plan).core.state.trials] == [{10: 1.0}, {10: 2.0}]

    def test_a_study_of_that_name_begun_elsewhere_is_refused(self, plan):
        check_record(plan)
        open_mirror(plan)
        with pytest.raises(UserError, match=r"--name toy-1: .* has a study of that name, begun elsewhere"):
            check_record(plan)
        plan.save()
        check_record(plan)

    def test_what_is_not_there_is_not_made_by_looking(self, plan):
        before = list(Path(plan.output.folder).iterdir())
        with pytest.raises(UserError, match=r"no record of .*toy-1"):
            open_study(plan)
        assert list(Path(plan.output.folder).iterdir()) == before


@pytest.mark.slow
def test_two_studies_in_one_database_do_not_mix(tmp_path, postgres):  # noqa: F811
    plans = [
        Plan.from_fields(
            PLAN
            | {"name": name, "storage": str(tmp_path), "folder": str(tmp_path / name), "optuna": postgres, "trials": 3}
        )
        for name in ("one", "two")
    ]
    one, two = (searcher_on(plan) for plan in plans)
    assert [one.suggest("a")["number"], one.suggest("b")["number"], two.suggest("a")["number"]] == [0, 1, 0]
    one.on_trial_complete("a", {"step": 1, METRIC: 1.0, "finished": True})
    assert [states(plan) for plan in plans] == [["COMPLETE", "RUNNING"], ["RUNNING"]]


@pytest.mark.slow
def test_first_users_of_an_empty_database_may_come_at_once(tmp_path, postgres):  # noqa: F811
    plans = [Plan.from_fields(PLAN | {"name": f"s{k}", "folder": str(tmp_path), "optuna": postgres}) for k in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(open_mirror, plans))
    assert len({mirror.study.study_name for mirror in opened}) == 4


def test_a_database_that_does_not_answer_is_one_line_at_once(tmp_path):
    plan = Plan.from_fields(PLAN | {"folder": str(tmp_path), "optuna": "postgresql://nobody@127.0.0.1:9/none"})
    started = time.monotonic()
    with pytest.raises(UserError, match=r"--optuna postgresql://nobody@127.0.0.1:9/none: .*[Rr]efused") as told:
        check_record(plan)
    assert "\n" not in str(told.value)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("url", ["mysql://host/db", "optuna.db", "postgresql:/host"])
def test_what_is_not_offered_is_refused(url):
    with pytest.raises(UserError, match=r"--optuna .*: give 'journal' or a postgresql:// URL"):
        Plan.from_fields(PLAN | {"optuna": url})


def test_a_password_is_not_kept():
    with pytest.raises(UserError, match="--optuna: no password in the URL"):
        Plan.from_fields(PLAN | {"optuna": "postgresql://me:secret@host/db"})


def test_a_damaged_file_is_one_line(tmp_path):
    plan = Plan.from_fields(PLAN | {"folder": str(tmp_path)})
    (tmp_path / "optuna.db").write_text("not a database " * 100)
    for look in (check_record, open_study, open_mirror):
        with pytest.raises(UserError, match=r"--optuna sqlite:///.*optuna.db: the record cannot be used \(.*not a"):
            look(plan)


def test_a_journal_survives_a_torn_last_line_and_a_killed_holder_of_its_lock(tmp_path):
    """docs/traps.md: Optuna reads no further than a torn line, and waits 30 s for a dead process's lock."""
    places = {"storage": str(tmp_path), "folder": str(tmp_path)}
    plan = Plan.from_fields(PLAN | places | {"optuna": JOURNAL, "trials": 3})
    searcher_on(plan).suggest("a")
    journal = Path(location(plan))
    with journal.open("a") as file:
        file.write('{"op_code": 6, "worker_id": "half a li')
    journal.with_name("optuna.log.lock").touch()
    started = time.monotonic()
    assert searcher_on(plan).suggest("b")["number"] == 0
    assert states(plan) == ["RUNNING"]
    assert time.monotonic() - started < 29


def test_a_resumed_study_proposes_what_an_unbroken_one_proposes(tmp_path):
    """Each trial's proposal is a function of seed, number and record."""

    def proposals(folder, drivers):
        places = {"storage": str(tmp_path / folder), "folder": str(tmp_path / folder / "toy-1")}
        (tmp_path / folder / "toy-1").mkdir(parents=True)
        plan = Plan.from_fields(PLAN | places | {"controls": 0, "trials": 9})
        found = []
        for number in range(9):
            if number == 0 or drivers > 1:
                played = PlayedTune(plan, space)
            found.append(played.suggest(str(number))["params"]["x"])
            played.on_trial_complete(str(number), {"step": 9, METRIC: found[-1], "finished": True})
        return found

    assert proposals("one", drivers=1) == proposals("many", drivers=9)


def test_optunas_own_loader_opens_the_file(tmp_path):
    """As optuna-dashboard does."""
    plan = Plan.from_fields(PLAN | {"storage": str(tmp_path), "folder": str(tmp_path)})
    searcher_on(plan).suggest("a")
    (trial,) = optuna.load_study(study_name=plan.name, storage=location(plan)).get_trials()
    assert (trial.state, trial.params) == (TrialState.RUNNING, {"x": 0.0})


def test_a_study_of_an_earlier_version_goes_on(tmp_path):
    """Its only record is Optuna's: trials that ended, one that ran, and controls that waited in Optuna's queue."""
    plan = Plan.from_fields(PLAN | {"storage": str(tmp_path), "folder": str(tmp_path), "trials": 5})
    before = optuna.create_study(storage=location(plan), study_name=plan.name)
    for control in (*CONTROLS, {"x": 0.5}):
        before.enqueue_trial(control, user_attrs={"control": True})
    for _ in range(2):
        trial = before.ask()
        trial.set_user_attr("config", space(trial))
        trial.report(3.0, 10)
    before.tell(0, 2.0)
    assert len(open_study(plan).get_trials()) == 2
    played = PlayedTune(plan, space, [{"x": 0.25}])
    given = [played.suggest(name) for name in "abc"]
    assert [(g["number"], g["params"], g["control"]) for g in given] == [
        (1, {"x": 1.0}, True),
        (2, {"x": 0.5}, True),
        (3, given[2]["params"], False),
    ]
    assert played.core.state.trials[0].ended.figures == {METRIC: 2.0}
    assert states(plan) == ["COMPLETE", "RUNNING", "RUNNING", "RUNNING"]
    assert len(open_log(plan).read()) > 4


def test_a_driver_that_dies_before_its_first_decision_leaves_no_study_without_controls(tmp_path):
    """It has made Optuna's study, which is no record of an earlier version."""
    plan = Plan.from_fields(PLAN | {"storage": str(tmp_path), "folder": str(tmp_path), "trials": 3})
    open_mirror(plan)
    played = searcher_on(plan)
    assert [played.suggest(name)["params"] for name in "ab"] == CONTROLS
