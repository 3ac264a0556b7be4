"""Models of the storage, Optuna and MLflow, as far as a study's driver and its workers use them.

They keep what they were given until the end of the world, and every operation is an effect at which the world may fail.
`test_contracts.py` holds each of them to the real one.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState
from simulated_world import Away, World

from sweeps.record.endings import endings, reasons
from sweeps.record.entries import Driven, Ended, Entry, Halted, Proposed, Queued, Reported, Resumed
from sweeps.record.state import RecordedTrial, StudyState
from sweeps.search.optuna_mirror import CONFIG, ERROR, STATES, OptunaMirror
from sweeps.storage.claim import EXPIRES
from sweeps.storage.trial_outcome import Ending
from sweeps.tracking.client import STATUS
from sweeps.tracking.reconcile import Comparison, Disagreement, Model, Run, Seen, compare, settle

OBJECTIVE = "latent_fd_best"


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
        self.world.reaches("storage")
        folder, name = self._at(uri)
        return folder.get(name)

    def names(self, uri: str) -> list[str]:
        self.world.reaches("storage")
        return list(self.folders.get(uri, ()))

    def remove(self, uri: str) -> None:
        self.world.effect("storage.remove")
        folder, name = self._at(uri)
        folder.pop(name, None)

    def _at(self, uri: str) -> tuple[dict[str, bytes], str]:
        folder, _, name = uri.rpartition("/")
        return self.folders.setdefault(folder, {}), name


class Unlike(Exception):
    """Optuna has something that the record does not have and that cannot be taken back."""


class OptunaModel:
    """Optuna's storage: trials with parameters, reports and a state; an ended trial cannot be changed any more.

    anew: how often the study was written anew, because it could not become what the record says.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.trials: list[dict[str, Any]] = []
        self.anew = 0

    def shown(self) -> list[dict[str, Any]]:
        return self.trials

    def follow(self, entry: Entry, state: StudyState) -> None:
        match entry:
            case Driven() | Queued():
                return
            case Proposed() | Resumed() | Reported() | Halted() | Ended():
                try:
                    if entry.number > len(self.trials):
                        raise Unlike(f"trial {len(self.trials)} is missing")
                    self._mend(state.trials[entry.number])
                except Unlike:
                    self.reconcile(state)

    def reconcile(self, state: StudyState) -> list[str]:
        self.world.effect("optuna.look")
        try:
            if len(self.trials) > len(state.trials):
                raise Unlike(f"{len(self.trials)} trials, not {len(state.trials)}")
            return [line for trial in state.trials for line in self._mend(trial)]
        except Unlike as error:
            self.anew += 1
            self.trials = []
            for trial in state.trials:
                self._mend(trial)
            return [f"the study was written anew ({error})"]

    def _mend(self, trial: RecordedTrial) -> list[str]:
        done, wanted = [], self.wanted(trial)
        if trial.number == len(self.trials):
            self.world.effect("optuna.add")
            self.trials.append(wanted | {"reports": dict(wanted["reports"])})
            self.world.effect("optuna.added")
            return ["it was missing"]
        there = self.trials[trial.number]
        if there["params"] != wanted["params"]:
            raise Unlike("proposed twice, differently")
        if there["state"].is_finished():
            if there != wanted:
                raise Unlike(f"an ended trial differs: {there}, {wanted}")
            return []
        if any(wanted["reports"].get(step) != value for step, value in there["reports"].items()):
            raise Unlike("Optuna has a report that the record does not have")
        for step, value in wanted["reports"].items():
            if step not in there["reports"]:
                self.world.effect("optuna.report")
                there["reports"][step] = value
                done.append(f"report {step}")
        if there["state"] != wanted["state"]:
            self.world.effect("optuna.tell")
            there |= {"state": wanted["state"], "value": wanted["value"], "error": wanted["error"]}
            self.world.effect("optuna.told")
            done.append("state")
        return done

    @staticmethod
    def wanted(trial: RecordedTrial) -> dict[str, Any]:
        state = STATES[trial.ending] if trial.ending else TrialState.WAITING if trial.halted else TrialState.RUNNING
        value = trial.ended.figures[OBJECTIVE] if trial.ended and trial.ending == "finished" else None
        if trial.ending == "pruned" and trial.reports:
            value = trial.reports[max(trial.reports)]  # as Optuna's `tell` does
        error = trial.ended.reason if trial.ended and trial.ended.reason else None
        params, reports = trial.proposal.params, dict(trial.reports)
        return {"params": params, "state": state, "value": value, "error": error, "reports": reports}


class RealOptuna(OptunaMirror):
    """Optuna itself as `OptunaModel` shows it. Every write to its storage is an effect at which the world may fail."""

    def __init__(self, world: World, storage: BaseStorage | None = None) -> None:
        super().__init__(storage or FailingStorage(world), "study", (OBJECTIVE,))
        self.world, self.anew = world, 0

    def shown(self) -> list[dict[str, Any]]:
        return [
            {
                "params": trial.user_attrs[CONFIG],
                "state": trial.state,
                "value": trial.value,
                "error": trial.user_attrs.get(ERROR),
                "reports": trial.intermediate_values,
            }
            for trial in self.study.get_trials(deepcopy=False)
        ]

    def reconcile(self, state: StudyState) -> list[str]:
        self.world.effect("optuna.look")
        lines = super().reconcile(state)
        self.anew += any("anew" in line for line in lines)
        return lines


class FailingStorage(InMemoryStorage):
    """Optuna's storage in memory, in the world."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        self.world.effect("optuna.add")
        made = super().create_new_trial(study_id, template_trial)
        self.world.effect("optuna.added")
        return made

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self.world.effect("optuna.report")
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.world.effect("optuna.attr")
        super().set_trial_user_attr(trial_id, key, value)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        self.world.effect("optuna.tell")
        done = super().set_trial_state_values(trial_id, state, values)
        self.world.effect("optuna.told")
        return done


class MlflowModel:
    """MLflow's runs, metrics and logged models of one study, with the outbox for what it could not take.

    It has what tracking servers have: runs may be many of one trial, a model is pending until it is finalised. One
    process at a time sends what waits of a trial; the claim of one that has died expires. stop: called when neither
    MLflow nor the storage takes a run's end.
    """

    def __init__(self, world: World, stop: Callable[[str], None] = lambda why: None) -> None:
        self.world, self.stop = world, stop
        self.runs: list[dict[str, Any]] = []
        self.models: list[dict[str, Any]] = []
        self.outbox: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        self.claims: dict[int, float] = {}  # who sends a trial's waiting writes, until when if it has died

    def write(self, number: int, kind: str, worker: bool = False, **fields: Any) -> None:
        """Send what waits, then this. If MLflow is away, or another process sends what waits, this waits too.

        Raises Away if the storage cannot take it either.
        """
        with contextlib.suppress(Away):
            if self.flush(number, worker):
                self._apply(number, kind, worker, fields)
                return
        self.world.effect("storage.put", worker)
        self.outbox.setdefault(number, []).append((kind, fields))

    def flush(self, number: int, worker: bool = False, wait: bool = False) -> bool:
        """Whether all that waited was sent; False if another process sends it. wait: until that one has died."""
        waiting = self.outbox.get(number, [])
        if not waiting:
            return True
        if self.claims.get(number, 0.0) > self.world.now:
            if not wait:
                return False
            self.world.now = self.claims[number]
        self.world.effect("storage.claim", worker)
        self.claims[number] = self.world.now + EXPIRES
        try:
            while waiting:
                kind, fields = waiting[0]
                self._apply(number, kind, worker, fields)
                if self.world.hits(0.1):
                    assert not self.flush(number, not worker), "two processes send at once"
                self.world.effect("storage.remove", worker)
                waiting.pop(0)
        except Away:
            del self.claims[number]  # a process that was killed instead releases nothing
            raise
        del self.claims[number]
        return True

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
            run |= {"status": "RUNNING"}  # the outcome of an earlier end stays until the next
        elif kind == "close":
            run |= {"outcome": fields["outcome"], "status": STATUS[fields["outcome"]]}
        elif kind == "metrics":
            for name, value in fields["values"].items():
                run["metrics"].setdefault((name, fields["step"]), value)
        elif kind == "model":
            own = [m for m in self.models if (m["trial"], m["step"]) == (number, fields["step"])]
            if not own:
                own = [{"trial": number, "step": fields["step"], "ready": False}]
                self.models += own
            if not own[0]["ready"]:
                self.world.effect("mlflow.model_pending", worker)  # the upload, at whose end it is finalised
                own[0]["ready"] = True
        self.world.effect(f"mlflow.{kind}_done", worker)

    def follow(self, entry: Entry, state: StudyState) -> None:
        match entry:
            case Proposed() | Resumed():
                self.write(entry.number, "open")
            case Ended() | Halted():
                try:
                    self.write(entry.number, "close", outcome=entry.ending if isinstance(entry, Ended) else "halted")
                except Away as error:
                    self.stop(f"neither MLflow nor the storage can be written ({error})")
            case _:
                pass

    def reconcile(self, state: StudyState) -> list[str]:
        def find() -> list[Disagreement]:
            return compare(self.seen(), endings(state), "this process", reasons(state))

        with contextlib.suppress(Away):  # at the next look
            mended, left = settle([Comparison(find, self)])
            assert not left
            return [one.kind for one in mended]
        return []

    def seen(self) -> Seen:
        self.world.reaches("mlflow")
        self.world.reaches("storage")
        return Seen(
            runs=[Run(str(at), r["trial"], r["status"], r["outcome"], at) for at, r in enumerate(self.runs)],
            models=[
                Model(str(at), m["trial"], m["step"], "", "READY" if m["ready"] else "PENDING", made=at)
                for at, m in enumerate(self.models)
                if m["trial"] >= 0
            ],
            waiting={number: len(left) for number, left in self.outbox.items() if left},
        )

    def send_waiting(self, trial: int) -> None:
        self.flush(trial, wait=True)

    def close_run(self, trial: int, outcome: Ending, reason: str | None) -> None:
        self._apply(trial, "close", False, {"outcome": outcome})

    def delete_model(self, model: str) -> None:
        self.world.effect("mlflow.delete_model")
        self.models[int(model)] |= {"trial": -1}  # its place stays, so that the names of others do


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
