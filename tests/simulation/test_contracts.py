"""The models of the simulation do what the real ones do: the same operations on both, equal observations.

Each contract is a list of operations, drawn from a seed. What the simulation assumes of Tune is in
`tests/sweeps/search/test_tune_contract.py`.
"""

import random
import shutil
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState
from ports import free_port
from simulated_models import Files, MlflowModel, OptunaModel, RealOptuna
from simulated_studies import REDUCTION, RUNGS, Shape, Study, check, shape_of
from simulated_world import World

from svgan.io import storage
from sweeps.driver.mlflow_follower import MlflowFollower
from sweeps.record.entries import Driven, Ended, Halted, Proposed, Queued, Resumed, from_json, to_json
from sweeps.record.log import Log
from sweeps.record.state import StudyState
from sweeps.search.proposer import StudyRules
from sweeps.storage.plan import Plan
from sweeps.storage.tag_names import OUTCOME, STEP, TRIAL
from sweeps.tracking import trial_log
from sweeps.tracking.client import Tracking, models_of
from sweeps.tracking.outbox import waiting
from sweeps.tracking.trial_log import TrialLog, sync

sys.path.append(str(Path(__file__).parents[1] / "sweeps"))
from made_plan import PLAN


class Power(BaseException):
    """The process ends here."""


# --- the storage


def file_operations(seed):
    """(operation, folder, name, content): each on one of few files, so that operations meet."""
    chance = random.Random(seed)
    yield "names", "never", "", b""
    for _ in range(60):
        what = chance.choice(("create", "create", "write", "read", "names", "remove", "race"))
        content = b'{"by": "%d"}' % chance.randrange(3)
        yield what, chance.choice(("record", "other")), f"{chance.randrange(4):012d}.json", content


def observed(files, base, operation):
    what, folder, name, content = operation
    where = f"{base}/{folder}/{name}"
    match what:
        case "create":
            return files.create(where, content)
        case "write":
            return files.write(where, content)
        case "read":
            return files.read(where)
        case "names":
            return sorted(files.names(f"{base}/{folder}"))
        case "remove":
            return files.remove(where)
        case "race":  # several writers of one name: one creates it, unless it is there
            there = files.read(where)
            contents = [b'{"by": "racer %d"}' % racer for racer in range(3)]
            with ThreadPoolExecutor(3 if files is storage else 1) as pool:
                won = list(pool.map(lambda own: files.create(where, own), contents))
            now = files.read(where)
            if there is None:
                assert contents[won.index(True)] == now, "the one that was told so has written it"
            files.write(where, content)  # who won is chance
            return sum(won), there
    raise AssertionError(what)


def holds_for_files(base, seeds):
    for seed in seeds:
        model, folder = Files(World(seed)), f"{base}/{uuid.uuid4().hex}"
        for operation in file_operations(seed):
            assert observed(model, folder, operation) == observed(storage, folder, operation), (seed, operation)


def test_the_storage_is_a_folder(tmp_path):
    holds_for_files(str(tmp_path), range(20))


def test_the_storage_is_in_memory():
    holds_for_files("memory://contract", range(20))


@pytest.mark.slow
def test_the_storage_is_a_real_s3_server(s3):
    holds_for_files(f"{s3}/contract", range(3))


# --- Optuna


def ended(seed, trials=6, make=Study):
    """A disturbed simulated study that has ended."""
    study = make(Shape(trials=trials, concurrency=1 + seed % 3, searched=seed % 4 > 0), World(seed, faults=0.02))
    study.run()
    return study


def entries_of(study):
    """Its record: entries in a valid order."""
    return Log("study/record", study.files, "reader").read()


SEEDS = (61, 81)  # of studies that have an entry of every kind


@pytest.mark.parametrize("kept", ["memory", "sqlite"])
def test_optuna(kept, tmp_path):
    kinds, ends = set(), set()
    for seed in SEEDS if kept == "sqlite" else (*SEEDS, *range(10)):
        real = RDBStorage(f"sqlite:///{tmp_path}/{seed}.db") if kept == "sqlite" else InMemoryStorage()
        world, chance = World(seed), random.Random(seed)
        model, mirror, state = OptunaModel(world), RealOptuna(world, real), StudyState()
        for entry in entries_of(ended(seed)):
            state.apply(entry)
            kinds.add(type(entry))
            ends.add(entry.ending if isinstance(entry, Ended) else None)
            if chance.random() < 0.2:
                continue  # a driver that died before its followers acted, or an Optuna that was away
            act = "reconcile" if chance.random() < 0.1 else "follow"
            for follower in (model, mirror):
                follower.reconcile(state) if act == "reconcile" else follower.follow(entry, state)
            assert model.shown() == mirror.shown(), (seed, entry)
        model.reconcile(state), mirror.reconcile(state)
        assert model.shown() == mirror.shown() == [OptunaModel.wanted(trial) for trial in state.trials]
        assert model.reconcile(state) == mirror.reconcile(state) == [], "twice changes nothing"
        assert model.anew == mirror.anew == 0
    assert kinds >= {Driven, Queued, Proposed, Resumed, Halted, Ended}
    assert ends >= {"finished", "pruned", "failed"}


def test_optuna_is_written_anew_where_it_cannot_follow():
    """An ended trial cannot be changed; nor can what the record does not have be taken back."""
    entries = entries_of(ended(1))
    last = max(at for at, entry in enumerate(entries) if isinstance(entry, Ended))
    fewer = [entry for entry in entries[:last] if getattr(entry, "number", 0) == 0]
    other = [*entries[:last], Ended(number=entries[last].number, ending="failed", reason="other")]
    for anew in (fewer, other):
        world = World(1)
        for follower in (OptunaModel(world), RealOptuna(world, InMemoryStorage())):
            follower.reconcile(StudyState(entries))
            state = StudyState(anew)
            assert "anew" in " ".join(follower.reconcile(state))
            assert follower.anew == 1
            assert follower.shown() == [OptunaModel.wanted(trial) for trial in state.trials]
    for follower in (OptunaModel(World(1)), RealOptuna(World(1), InMemoryStorage())):
        follower.reconcile(StudyState(entries))
        state = StudyState(other)
        follower.follow(other[-1], state)
        assert follower.anew == 1, "also where the driver follows entry by entry"
        assert follower.shown() == [OptunaModel.wanted(trial) for trial in state.trials]
    mirror = RealOptuna(World(1), InMemoryStorage())
    mirror.reconcile(StudyState(entries))
    whole = next(trial.number for trial in mirror.study.get_trials() if trial.state == TrialState.COMPLETE)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        mirror.storage.set_trial_intermediate_value(mirror._id_of(whole), 1000, 1.0)


# --- the rules


def plan_of(shape, seed, **more):
    searched = {"rungs": RUNGS if shape.searched else (), "reduction": REDUCTION, "seed": seed}
    return Plan.from_fields(PLAN | searched | {"trials": shape.trials, "controls": 0} | more)


SPACE = {"x": optuna.distributions.FloatDistribution(0.0, 1.0), "y": [1, 2, 4]}


def real_study(shape, world):
    """A simulated study in which Optuna's sampler proposes, and Optuna's storage follows."""
    space = SPACE if shape.searched else {"x": SPACE["x"]}  # a grid's points leave nothing to the sampler
    return Study(shape, world, lambda: StudyRules(plan_of(shape, world.seed), space), RealOptuna(world))


@pytest.mark.parametrize("make", [Study, real_study])
def test_a_proposal_is_a_function_of_the_record(make):
    """The same from the same state, from one that was read again, and by rules that have proposed before."""
    halted = False
    for seed in (5, 61, 81, 107):
        study = ended(seed, make=make)
        entries, used = entries_of(study), study.rules()
        for length in range(len(entries) + 1):
            state, read_again = StudyState(entries[:length]), StudyState(map(from_json, map(to_json, entries[:length])))
            told = used.propose(state)
            assert told == used.propose(state) == study.rules().propose(read_again)
            assert told.number == len(state.trials)
            assert from_json(to_json(told)) == told
            halted = halted or any(trial.halted for trial in state.trials)
            for entry in entries[length : length + 1]:
                assert not isinstance(entry, Proposed) or entry == told, "the record has what the rules say"
    assert halted, "a trial that waits to go on is not proposed again"


@pytest.mark.parametrize("make", [Study, real_study])
def test_the_queue_comes_first(make):
    rules, state = make(Shape(), World(1)).rules(), StudyState()
    state.apply(Queued(points=[{"x": 0.25}, {"x": 0.5}], control=True))
    for number, (x, control) in enumerate([(0.25, True), (0.5, True), (None, False)]):
        told = rules.propose(state)
        assert (told.number, told.control) == (number, control)
        assert x in (None, told.params["x"])
        state.apply(told)
    assert told.params["x"] not in (0.25, 0.5)


@pytest.mark.parametrize("part", range(2))
def test_schedules_with_optunas_own_sampler_and_storage(part):
    for seed in range(part, 20, 2):
        try:
            check(seed, make=real_study)
        except Exception as error:
            raise AssertionError(f"seed {seed}, {shape_of(seed)}: {error!r}") from error


# --- MLflow


class RealMlflow:
    """MLflow on a SQLite file, as `MlflowModel` shows it."""

    def __init__(self, folder, database):
        shutil.copy(database, folder / "mlflow.db")
        self.file, self.files = folder / "mlflow.db", folder / "generator"
        self.files.mkdir()
        (self.files / "state.json").write_text("{}")
        places = {"storage": f"{folder}/runs", "folder": f"{folder}/runs/toy-1"}
        self.plan = Plan.from_fields(PLAN | places | {"tracking": f"sqlite:///{self.file}"})
        self.tracking = Tracking(self.plan)
        self.tracking.parent()
        self.follower = MlflowFollower(self.plan, lambda number, params: params, lambda number: {}, pytest.fail)

    def follow(self, entry, state):
        self.follower.follow(entry, state)

    def away(self, away):
        """MLflow's address answers, or nobody is there."""
        tracking = f"http://127.0.0.1:{free_port()}" if away else f"sqlite:///{self.file}"
        self.follower.plan = self.plan = self.plan.with_fields(tracking=tracking)

    def write(self, number, kind, worker=True, **fields):
        log = TrialLog(self.plan, number)
        if kind == "metrics":
            log.metrics(fields["step"], fields["values"])
        else:
            log.model(fields["step"], self.files, {}, {})

    def sync(self):
        assert sync(self.plan)[1] == 0

    def shown(self):
        runs = []
        for run in self.tracking.runs():
            points = [
                (key, point.step, point.value)
                for key in run.data.metrics
                for point in self.tracking.client.get_metric_history(run.info.run_id, key)
            ]
            tags = run.data.tags
            runs.append((int(tags[TRIAL]), run.info.status, tags.get(OUTCOME), sorted(points)))
        models = models_of(self.tracking.client, self.tracking.experiment, self.plan.name)
        made = sorted((int(m.tags[TRIAL]), int(m.tags[STEP]), m.status == "READY") for m in models)
        return runs, made, waiting(self.plan)


class ModelledMlflow(MlflowModel):
    def away(self, away):
        self.world.away["mlflow"] = float("inf") if away else 0.0

    def sync(self):
        for number in self.outbox:
            self.flush(number)

    def shown(self):
        runs = [
            (
                run["trial"],
                run["status"],
                run["outcome"],
                sorted((*key, value) for key, value in run["metrics"].items()),
            )
            for run in sorted(self.runs, key=lambda run: run["trial"])
        ]
        made = sorted((model["trial"], model["step"], model["ready"]) for model in self.models if model["trial"] >= 0)
        return runs, made, {number: len(left) for number, left in sorted(self.outbox.items()) if left}


class CutWorld(World):
    """A world in which the power is cut at the effect `cut`."""

    cut = ""

    def effect(self, name, worker=False):
        super().effect(name, worker)
        if name == self.cut:
            raise Power


def writes(chance, state):
    """What workers write beside the driver: figures and models, some of them again, MLflow away for a while."""
    began = [trial.number for trial in state.trials]
    for _ in range(chance.randrange(3) if began else 0):
        number, step = chance.choice(began), chance.choice((10, 20, 30))
        kind = chance.choice(("metrics", "metrics", "model", "torn model", "away", "back", "sync", "reconcile"))
        yield kind, number, {"step": step} | ({"values": {"latent_fd": 1 / step}} if kind == "metrics" else {})


@pytest.mark.parametrize("seed", range(2))
def test_mlflow(seed, tmp_path, database, monkeypatch):
    monkeypatch.setattr(trial_log, "RETRY_SECONDS", 0.0)
    world, chance, state, away = CutWorld(seed), random.Random(seed), StudyState(), False
    model, real = ModelledMlflow(world), RealMlflow(tmp_path, database)
    told, done = MlflowClient.log_model_artifacts, set()

    def torn(*arguments):
        raise Power

    for entry in entries_of(ended(seed, trials=3)):
        state.apply(entry)
        model.follow(entry, state), real.follow(entry, state)
        for kind, number, fields in writes(chance, state):
            done.add((kind, away))
            if kind in ("away", "back"):
                away = kind == "away"
                model.away(away), real.away(away)
            elif kind == "sync" and not away:
                model.sync(), real.sync()
            elif kind == "reconcile":
                assert len(model.reconcile(state)) == len(real.follower.reconcile(state))
            elif kind == "torn model" and not away:
                world.cut = "mlflow.model_pending"
                monkeypatch.setattr(MlflowClient, "log_model_artifacts", torn)
                ends = []
                for one in (model, real):
                    try:
                        one.write(number, "model", worker=True, **fields)
                        ends.append("whole before")
                    except Power:
                        ends.append("torn")
                assert ends[0] == ends[1], (kind, number, fields)
                world.cut = ""
                monkeypatch.setattr(MlflowClient, "log_model_artifacts", told)
            elif kind in ("metrics", "model"):
                model.write(number, kind, worker=True, **fields), real.write(number, kind, **fields)
            assert model.shown() == real.shown(), (kind, number, fields, away)
        assert model.shown() == real.shown(), entry
    model.away(False), real.away(False)
    assert len(model.reconcile(state)) == len(real.follower.reconcile(state))
    assert model.reconcile(state) == real.follower.reconcile(state) == [], "twice changes nothing"
    runs, models, left = model.shown()
    assert (runs, models, left) == real.shown()
    assert not left
    assert {status for _, status, _, _ in runs} <= {"FINISHED", "KILLED", "FAILED"}
    assert {kind for kind, _ in done} >= {"metrics", "model", "torn model", "away", "back"}
    assert any(kind == "metrics" and was_away for kind, was_away in done)
