"""How each trial of a study's record ended, in the words that MLflow's runs are closed with."""

from __future__ import annotations

from sweeps.record.state import StudyState
from sweeps.storage.trial_outcome import Ending


def endings(state: StudyState) -> dict[int, Ending | None]:
    """The ending of every trial by its number; None for one that runs or goes on."""
    return {trial.number: trial.ending or ("halted" if trial.halted else None) for trial in state.trials}


def reasons(state: StudyState) -> dict[int, str]:
    """Why trials failed or were halted, by number."""
    last = {trial.number: trial.ended or trial.halted for trial in state.trials}
    return {number: entry.reason for number, entry in last.items() if entry and entry.reason}
