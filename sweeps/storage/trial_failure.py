"""Why a trial failed, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.storage.trial_outcome import FAILED

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


def failure(trial: Trial) -> str:
    """The reason that a failed trial gave, without Ray's frames around it.

    It stands in the trial's result, or in the last line of the driver's own copy of the error file. `trial.get_error()`
    reads the storage, where the error arrives later.
    """
    if FAILED in (trial.last_result or {}):
        return str(trial.last_result[FAILED])
    path = Path(trial.error_file or "")
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()] if path.is_file() else []
    return (lines or ["no reason given"])[-1][:500]
