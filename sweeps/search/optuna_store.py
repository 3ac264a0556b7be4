"""Optuna's storage of a study, which shows the study's record to `optuna-dashboard`, and the one way to open it.

It is a SQLite file or a journal in the study's folder, or a shared PostgreSQL, where every study has its own name.
Nothing here knows Ray.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from svgan.errors import UserError
from svgan.io import storage
from sweeps.record.log import Log
from sweeps.record.state import StudyState
from sweeps.search.optuna_mirror import OptunaMirror, recorded
from sweeps.storage import study_files
from sweeps.storage.plan import PLAN_FILE
from sweeps.storage.plan_parts import JOURNAL

if TYPE_CHECKING:
    from sweeps.record.entries import Entry
    from sweeps.storage.plan import Plan

RECORD = "record"  # the folder of the log in the study's storage
REACH_SECONDS = 5  # for a connection to PostgreSQL: preflight has to answer quickly
LOCK_SECONDS = 60  # that SQLite waits for another writer, such as a dashboard or a backup of its file
RACE_SECONDS = 0.2  # times the attempt: another process creates the tables meanwhile


def location(plan: Plan) -> str:
    """The address of Optuna's record, as `optuna-dashboard` takes it."""
    if not plan.output.optuna:
        return f"sqlite:///{plan.output.folder}/optuna.db"
    return f"{plan.output.folder}/optuna.log" if plan.output.optuna == JOURNAL else plan.output.optuna


def open_log(plan: Plan, writer: str = "") -> Log:
    """The log of the study's record. writer: the driver that appends to it; readers have none."""
    return Log(study_files.place(plan, RECORD), storage, writer)


def open_study(plan: Plan) -> optuna.Study:
    """The study as its record says, in memory, for readers: tables, plots. Raises UserError as `read_record` does."""
    mirror = OptunaMirror.in_memory(plan)
    mirror.reconcile(read_record(plan))
    return mirror.study


def read_record(plan: Plan) -> StudyState:
    """What the study's record says. Raises UserError if there is none, neither a log nor Optuna's storage of an earlier
    version.
    """
    entries = open_log(plan).read() or recorded_before(plan)
    if not entries:
        raise UserError(
            f"{study_files.place(plan, RECORD)}: no record of {plan.name} here; check its name and --storage"
        )
    return StudyState(entries)


def recorded_before(plan: Plan) -> list[Entry]:
    """The entries of a study that was begun before studies had a record; [] if Optuna's storage has no such study."""
    if not has_file(plan):
        return []
    with _one_line(plan):
        kept = _opened(plan)
        if plan.name not in (study.study_name for study in kept.get_all_studies()):
            return []
        trials = kept.get_all_trials(kept.get_study_id_from_name(plan.name), deepcopy=False)
    return recorded(trials, plan.search.objective_keys)


def open_mirror(plan: Plan) -> OptunaMirror:
    """Optuna's study of this plan, created if it is missing. Raises UserError if the storage cannot be used."""
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    with _one_line(plan):
        if plan.output.optuna == JOURNAL:
            mend_journal(Path(location(plan)))
        return OptunaMirror(_opened(plan), plan.name, plan.search.objective_keys)


def check_record(plan: Plan) -> None:
    """Raises UserError if the storage cannot be used, or holds another study of this name. Creates no file."""
    if not has_file(plan):
        return
    with _one_line(plan):
        names = [study.study_name for study in _opened(plan).get_all_studies()]
    if plan.name in names and not Path(plan.output.folder, PLAN_FILE).exists():
        raise UserError(
            f"--name {plan.name}: {location(plan)} has a study of that name, begun elsewhere; choose another name, or "
            "resume it where its study.json is"
        )


def has_file(plan: Plan) -> bool:
    """Whether Optuna's storage is there, as far as a file can tell: a database may be empty."""
    return plan.output.optuna not in ("", JOURNAL) or Path(location(plan).removeprefix("sqlite:///")).exists()


def _opened(plan: Plan) -> BaseStorage:
    if plan.output.optuna == JOURNAL:
        path = location(plan)
        # The kernel frees this lock with its holder. Optuna's own locks outlive a killed driver by half a minute.
        lock: Any = FileLock(f"{path}.lock", poll_interval=0.01)
        return JournalStorage(JournalFileBackend(path, lock))
    if not plan.output.optuna:
        return RDBStorage(location(plan), engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}})
    reach = {"connect_args": {"connect_timeout": REACH_SECONDS}, "pool_pre_ping": True}
    for attempt in range(5):
        with contextlib.suppress(*_made_by_another() if attempt < 4 else ()):
            return RDBStorage(plan.output.optuna, engine_kwargs=reach)
        time.sleep(RACE_SECONDS * (attempt + 1))
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
