"""Optuna's record of a study: sampling from its space, the storage beside the study, and the one way to open it.

The record is the study's only state: a SQLite file or a journal in its folder, or a shared PostgreSQL, where every
study has its own name. `optuna-dashboard` opens each of them. Nothing here knows Ray.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from filelock import FileLock
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from svgan.errors import UserError
from sweeps.storage.plan import PLAN_FILE
from sweeps.storage.plan_parts import JOURNAL

if TYPE_CHECKING:
    from sweeps.storage.plan import Plan

Space = Callable[[optuna.Trial], dict[str, Any]] | Mapping[str, Any]
STEP = "step"
# User attributes of an Optuna trial.
CONTROL, CONFIG, ERROR, REPORTS = "control", "config", "error", "reports"
REACH_SECONDS = 5


def sample(space: Space, trial: optuna.Trial) -> dict[str, Any]:
    """Sample a configuration: the return value of a define-by-run function, or one value per entry of a dict.

    Entries of the dict are Optuna distributions, lists (a choice) or constants.
    """
    if callable(space):
        return space(trial)
    return {name: _suggest(trial, name, entry) for name, entry in space.items()}


def _suggest(trial: optuna.Trial, name: str, entry: Any) -> Any:
    if isinstance(entry, FloatDistribution):
        return trial.suggest_float(name, entry.low, entry.high, step=entry.step, log=entry.log)
    if isinstance(entry, IntDistribution):
        return trial.suggest_int(name, entry.low, entry.high, step=entry.step, log=entry.log)
    if isinstance(entry, CategoricalDistribution):
        return trial.suggest_categorical(name, entry.choices)
    return trial.suggest_categorical(name, entry) if isinstance(entry, list | tuple) else entry


def location(plan: Plan) -> str:
    """The address of Optuna's record, as `optuna-dashboard` takes it."""
    if not plan.output.optuna:
        return f"sqlite:///{plan.output.folder}/optuna.db"
    return f"{plan.output.folder}/optuna.log" if plan.output.optuna == JOURNAL else plan.output.optuna


@dataclass(frozen=True)
class Record:
    """Optuna's record of a study, with the storage that it was opened on.

    Optuna's study has no method that stops a trial so that it may go on later; its storages have one. They are asked
    here by the names that `BaseStorage` gives its methods, on the storage that this module made itself.
    """

    study: optuna.Study
    storage: BaseStorage

    def set_state(self, number: int, state: TrialState) -> None:
        """Move an unfinished trial between WAITING and RUNNING; its parameters and reports stay."""
        self.storage.set_trial_state_values(self._id_of(number), state)

    def trial(self, number: int) -> optuna.Trial:
        """An unfinished trial, to be reported to and told like one that `Study.ask` returned."""
        return optuna.Trial(self.study, self._id_of(number))

    def _id_of(self, number: int) -> int:
        study = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study, number)


def open_study(plan: Plan, *, controls: Sequence[Mapping[str, Any]] | None = None) -> optuna.Study:
    """Open the record for callers that change no trial's state."""
    return open_record(plan, controls=controls).study


def open_record(plan: Plan, *, controls: Sequence[Mapping[str, Any]] | None = None) -> Record:
    """Open Optuna's record of a study.

    With controls, as the driver opens it, a missing record is created, with the controls first in the queue. The
    sampler's seed counts the existing trials, so that a resumed study does not propose its first points again. Without
    controls the record must exist. Raises UserError if it does not, or if the storage cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    if controls is None and not _has_file(plan):
        raise UserError(f"{location(plan)}: no record of {plan.name} here; check its name and --storage")
    with _one_line(plan):
        if controls is not None and plan.output.optuna == JOURNAL:
            mend_journal(Path(location(plan)))
        storage = _opened(plan)
        if controls is None:
            return Record(optuna.load_study(storage=storage, study_name=plan.name), storage)
        study = optuna.create_study(
            storage=storage,
            study_name=plan.name,
            directions=[optuna.study.StudyDirection.MINIMIZE] * max(1, len(plan.search.objectives)),
            load_if_exists=True,
        )
        known = len(study.get_trials(deepcopy=False))
        study.sampler = _sampler(plan, known)
        if not known:
            study.set_user_attr("format", 1)
            for control in controls:
                study.enqueue_trial(dict(control), user_attrs={CONTROL: True})
        return Record(study, storage)


def check_record(plan: Plan) -> None:
    """Raises UserError if the storage cannot be used, or holds another study of this name. Creates no file."""
    if not _has_file(plan):
        return
    with _one_line(plan):
        names = [study.study_name for study in _opened(plan).get_all_studies()]
    if plan.name in names and not Path(plan.output.folder, PLAN_FILE).exists():
        raise UserError(
            f"--name {plan.name}: {location(plan)} has a study of that name, begun elsewhere; choose another name, or "
            "resume it where its study.json is"
        )


def unfinished(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that were started and have not ended: RUNNING if the driver died, WAITING if they were halted."""
    return [t for t in trials if t.state == TrialState.RUNNING or (t.state == TrialState.WAITING and was_out(t))]


def was_out(trial: FrozenTrial) -> bool:
    """Whether the trial was ever started. A WAITING trial that was not is a queued control."""
    return trial.state != TrialState.WAITING or CONFIG in trial.user_attrs


def reports(trial: FrozenTrial | optuna.Trial) -> dict[int, float]:
    """A trial's running minimum by step.

    Optuna takes no reports in a study of several objectives, so there they are kept as a user attribute.
    """
    kept = trial.user_attrs.get(REPORTS)
    if kept is None:
        return dict(getattr(trial, "intermediate_values", {}))
    return {int(step): value for step, value in kept.items()}


def _sampler(plan: Plan, known: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(
        seed=plan.search.seed + 7919 * known, n_startup_trials=max(4, min(10, plan.search.trials // 3))
    )


def _has_file(plan: Plan) -> bool:
    return not is_file(plan) or Path(location(plan).removeprefix("sqlite:///")).exists()


def is_file(plan: Plan) -> bool:
    return plan.output.optuna in ("", JOURNAL)


def _opened(plan: Plan) -> BaseStorage:
    if plan.output.optuna == JOURNAL:
        path = location(plan)
        # The kernel frees this lock with its holder. Optuna's own locks outlive a killed driver by half a minute.
        lock: Any = FileLock(f"{path}.lock", poll_interval=0.01)
        return JournalStorage(JournalFileBackend(path, lock))
    if not plan.output.optuna:
        return RDBStorage(location(plan), engine_kwargs={"connect_args": {"timeout": 60}})
    reach = {"connect_args": {"connect_timeout": REACH_SECONDS}, "pool_pre_ping": True}
    for attempt in range(5):
        with contextlib.suppress(*_made_by_another() if attempt < 4 else ()):
            return RDBStorage(plan.output.optuna, engine_kwargs=reach)
        time.sleep(0.2 * (attempt + 1))
    raise AssertionError("the last attempt returns or raises")


def _made_by_another() -> tuple[type[Exception], ...]:
    """The errors of a process that loses the race to create a database's tables."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    return IntegrityError, ProgrammingError


@contextlib.contextmanager
def _one_line(plan: Plan) -> Any:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, OSError, RuntimeError, ValueError) as error:
        inner = getattr(error, "orig", None) or error.__cause__ or error
        lines = str(inner).strip().splitlines() or [type(inner).__name__]
        raise UserError(
            f"--optuna {plan.output.optuna or location(plan)}: the record cannot be used ({lines[0][:200]}); mend "
            "that, or leave --optuna out for a file beside the study"
        ) from None
    except KeyError:
        raise UserError(f"{location(plan)}: no record of a study {plan.name!r}; check its name") from None


def mend_journal(path: Path) -> None:
    """Cut off a last line that a full disk or a power cut left half written: Optuna does not read past such a line."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        text = file.read()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            file.truncate(whole)
