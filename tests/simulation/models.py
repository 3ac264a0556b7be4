"""Models of the storage, Optuna and MLflow, as far as a study's driver and its workers use them.

They keep what they were given until the end of the world, and every operation is an effect at which the world may fail.
`test_contracts.py` holds each of them to the real one.
"""

import contextlib
from typing import Any

from optuna.trial import TrialState
from world import Away, World

from sweeps.record.entries import Driven, Ended, Entry, Halted, Proposed, Queued, Reported, Resumed
from sweeps.record.state import RecordedTrial, StudyState
from sweeps.search.optuna_mirror import STATES

MLFLOW_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "halted": "KILLED", "failed": "FAILED"}


class Files:
    """The storage: folders of files (`sweeps.record.log.Files`)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.folders: dict[str, dict[str, bytes]] = {}

    def create(self, uri: str, content: bytes) -> bool:
        self.world.effect("storage.create")
        folder, name = self._at(uri)
        if name in folder:
            return folder[name] == content
        folder[name] = content
        self.world.effect("storage.created")
        return True

    def write(self, uri: str, content: bytes) -> None:
        self.world.effect("storage.write")
        folder, name = self._at(uri)
        folder[name] = content
        self.world.effect("storage.written")

    def read(self, uri: str) -> bytes | None:
        folder, name = self._at(uri)
        return folder.get(name)

    def names(self, uri: str) -> list[str]:
        return list(self.folders.get(uri, ()))

    def remove(self, uri: str) -> None:
        self.world.effect("storage.remove")
        folder, name = self._at(uri)
        folder.pop(name, None)

    def _at(self, uri: str) -> tuple[dict[str, bytes], str]:
        folder, _, name = uri.rpartition("/")
        return self.folders.setdefault(folder, {}), name


class OptunaModel:
    """Optuna's storage: trials with parameters, reports and a state; an ended trial cannot be changed any more."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.trials: list[dict[str, Any]] = []

    def follow(self, entry: Entry, state: StudyState) -> None:
        match entry:
            case Driven() | Queued():
                return
            case Proposed() | Resumed() | Reported() | Halted() | Ended():
                if entry.number > len(self.trials):
                    self.reconcile(state)
                else:
                    self._mend(state.trials[entry.number])

    def reconcile(self, state: StudyState) -> list[str]:
        self.world.effect("optuna.look")
        return [line for trial in state.trials for line in self._mend(trial)]

    def _mend(self, trial: RecordedTrial) -> list[str]:
        done, wanted = [], self.wanted(trial)
        if trial.number == len(self.trials):
            self.world.effect("optuna.add")
            self.trials.append(wanted | {"reports": dict(wanted["reports"])})
            self.world.effect("optuna.added")
            return ["it was missing"]
        there = self.trials[trial.number]
        assert there["params"] == wanted["params"], "proposed twice, differently"
        if there["state"].is_finished():
            assert there == wanted, f"an ended trial differs: {there}, {wanted}"
            return []
        for step, value in wanted["reports"].items():
            if step not in there["reports"]:
                self.world.effect("optuna.report")
                there["reports"][step] = value
                done.append(f"report {step}")
        assert there["reports"] == wanted["reports"], "Optuna has a report that the record does not have"
        if there["state"] != wanted["state"]:
            self.world.effect("optuna.tell")
            there |= {"state": wanted["state"], "value": wanted["value"]}
            self.world.effect("optuna.told")
            done.append("state")
        return done

    @staticmethod
    def wanted(trial: RecordedTrial) -> dict[str, Any]:
        state = STATES[trial.ending] if trial.ending else TrialState.WAITING if trial.halted else TrialState.RUNNING
        value = trial.ended.figures["best"] if trial.ended and trial.ending == "finished" else None
        return {"params": trial.proposal.params, "state": state, "value": value, "reports": dict(trial.reports)}


class MlflowModel:
    """MLflow's runs, metrics and logged models of one study, with the outbox for what it could not take.

    It has what tracking servers have: runs may be many of one trial, a model is pending until it is finalised.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.runs: list[dict[str, Any]] = []
        self.models: list[dict[str, Any]] = []
        self.outbox: dict[int, list[tuple[str, dict[str, Any]]]] = {}

    def write(self, number: int, kind: str, worker: bool = False, **fields: Any) -> None:
        """Send what waits, then this; if MLflow is away, it waits too."""
        waiting = self.outbox.setdefault(number, [])
        try:
            self.flush(number, worker)
            self._apply(number, kind, worker, fields)
        except Away:
            waiting.append((kind, fields))

    def flush(self, number: int, worker: bool = False) -> None:
        waiting = self.outbox.get(number, [])
        while waiting:
            kind, fields = waiting[0]
            self._apply(number, kind, worker, fields)
            self.world.effect("storage.remove", worker)
            waiting.pop(0)

    def _run(self, number: int, worker: bool) -> dict[str, Any]:
        found = [run for run in self.runs if run["trial"] == number]
        if not found:
            self.world.effect("mlflow.create_run", worker)
            found = [{"trial": number, "status": "RUNNING", "outcome": None, "metrics": {}}]
            self.runs += found
            self.world.effect("mlflow.created_run", worker)
        return found[0]

    def _apply(self, number: int, kind: str, worker: bool, fields: dict[str, Any]) -> None:
        run = self._run(number, worker)
        self.world.effect(f"mlflow.{kind}", worker)
        if kind == "open":
            run |= {"status": "RUNNING", "outcome": None}
        elif kind == "close":
            run |= {"outcome": fields["outcome"], "status": MLFLOW_STATUS[fields["outcome"]]}
        elif kind == "metrics":
            for name, value in fields["values"].items():
                run["metrics"].setdefault((name, fields["step"]), value)
        elif kind == "model":
            own = [m for m in self.models if (m["trial"], m["step"]) == (number, fields["step"])]
            if not own:
                own = [{"trial": number, "step": fields["step"], "ready": False}]
                self.models += own
                self.world.effect("mlflow.model_pending", worker)
            own[0]["ready"] = True
        self.world.effect(f"mlflow.{kind}_done", worker)

    def follow(self, entry: Entry, state: StudyState) -> None:
        match entry:
            case Proposed() | Resumed():
                self.write(entry.number, "open")
            case Ended():
                self.write(entry.number, "close", outcome=entry.ending)
            case Halted():
                self.write(entry.number, "close", outcome="halted")
            case _:
                pass

    def reconcile(self, state: StudyState) -> list[str]:
        done: list[str] = []
        with contextlib.suppress(Away):  # at the next look
            self._reconcile(state, done)
        return done

    def _reconcile(self, state: StudyState, done: list[str]) -> None:
        for trial in state.trials:
            outcome = trial.ending or ("halted" if trial.halted else None)
            for left in [m for m in self.models if m["trial"] == trial.number and trial.ended and not m["ready"]]:
                self.world.effect("mlflow.delete_model")
                self.models.remove(left)
                done.append(f"a model of run {trial.number} was never finished")
            found = [run for run in self.runs if run["trial"] == trial.number]
            if outcome and (not found or found[0]["outcome"] != outcome):
                self.write(trial.number, "close", outcome=outcome)
                done.append(f"run {trial.number} was open")
            elif not found:
                self.write(trial.number, "open")
                done.append(f"run {trial.number} was missing")


class Checkpoints:
    """The last checkpoint of each trial, in the storage."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kept: dict[int, tuple[int, tuple[tuple[int, float], ...]]] = {}

    def load(self, number: int) -> tuple[int, dict[int, float]]:
        step, history = self.kept.get(number, (0, ()))
        return step, dict(history)

    def save(self, number: int, step: int, history: dict[int, float]) -> None:
        self.world.effect("storage.checkpoint", worker=True)
        self.kept[number] = step, tuple(history.items())
        self.world.effect("storage.checkpointed", worker=True)
