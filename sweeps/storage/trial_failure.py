"""Why a trial failed, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.storage.trial_outcome import FAILED

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


def failure(trial: Trial) -> str:
    """A failed trial's own last word, without Ray's frames around it.

    Its result's, or the last line of the driver's own copy of the error file: `trial.get_error()` reads the storage,
    where it comes later.
    """
    if FAILED in (trial.last_result or {}):
        return str(trial.last_result[FAILED])
    path = Path(trial.error_file or "")
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()] if path.is_file() else []
    return (lines or ["no reason given"])[-1][:500]
