"""What Optuna's storage and the study's folder have otherwise than the study's record, for `python -m sweeps check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from svgan.io import storage
from sweeps.storage import study_files
from sweeps.tracking.reconcile import Comparison, Disagreement, Mend

if TYPE_CHECKING:
    from sweeps.record.state import StudyState
    from sweeps.storage.plan import Plan

TRAINING = "train-"


def optuna_comparison(plan: Plan, state: StudyState) -> Comparison:
    """Whether Optuna's storage, which `optuna-dashboard` shows, has what the record has. Creates nothing by looking."""
    from sweeps.search import optuna_store

    def find() -> list[Disagreement]:
        mend = Mend("write", ())
        if not optuna_store.has_file(plan):
            return [Disagreement("Optuna", None, "Optuna's storage is missing", "write it from the record", mend)]
        found = optuna_store.open_mirror(plan).look(state)
        return [
            Disagreement(
                "Optuna",
                number,
                f"in Optuna's storage, {'; '.join(texts)}",
                "write it anew from the record" if number is None else "write it",
                mend,
            )
            for number, texts in found.items()
        ]

    return Comparison(find, OptunaStorage(plan, state))


class OptunaStorage:
    """Optuna's storage of a study, to be made what the record says."""

    def __init__(self, plan: Plan, state: StudyState) -> None:
        self.plan, self.state = plan, state

    def write(self) -> None:
        from sweeps.search.optuna_store import open_mirror

        open_mirror(self.plan).reconcile(self.state)


def folder_comparison(plan: Plan, state: StudyState) -> Comparison:
    """Whether every folder of checkpoints belongs to a trial of the record."""
    folders = TrainingFolders(plan)

    def find() -> list[Disagreement]:
        return [
            Disagreement(
                "checkpoints without a trial",
                number,
                f"there are checkpoints of it, and the record has no such trial: {folders.place(number)}",
                "delete them, so that no later trial of this number goes on from them",
                Mend("remove", (number,)),
            )
            for number in folders.numbers()
            if number >= len(state.trials)
        ]

    return Comparison(find, folders)


class TrainingFolders:
    """The folders in which Ray Train keeps the checkpoints of a study's trials."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def numbers(self) -> list[int]:
        found = (name.removeprefix(TRAINING) for name in storage.names(study_files.place(self.plan)))
        return sorted(int(name) for name in found if name.isdigit())

    def place(self, number: int) -> str:
        return study_files.training(self.plan, number)

    def remove(self, number: int) -> None:
        storage.remove(self.place(number))
