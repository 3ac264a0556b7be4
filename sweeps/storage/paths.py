"""Where the parts of a study are: absolute paths, URLs, the driver's folder, and MLflow's address."""

from __future__ import annotations

import re
import time
from pathlib import Path

from sweeps.storage import environment
from sweeps.storage.environment import check_passwordless

_REMOTE = re.compile(r"^[a-z][a-z0-9+.-]+://")


def absolute(location: str) -> str:
    """Make a path absolute, because workers run in other folders. URLs stay, except a relative `sqlite:///` one."""
    if location.startswith("sqlite:///"):
        return "sqlite:///" + str(Path(location.removeprefix("sqlite:///")).absolute())
    if location.startswith("file:"):
        return location
    return location if _REMOTE.match(location) else str(Path(location).expanduser().absolute())


def is_remote(location: str) -> bool:
    return bool(_REMOTE.match(location)) and not location.startswith("file:")


def study_folder(storage: str, name: str) -> Path:
    """The driver's own folder of a study: inside a local storage, else under ./runs."""
    return Path("runs" if is_remote(storage) else absolute(storage).removeprefix("file://"), name).absolute()


def default_tracking() -> str:
    """MLFLOW_TRACKING_URI, or MLflow's own default in the working folder."""
    uri = absolute(environment.default("tracking", "sqlite:///mlflow.db"))
    check_passwordless("MLFLOW_TRACKING_URI", uri)
    return uri


def fresh_name(study: str) -> str:
    return f"{study}-{time.strftime('%Y%m%d-%H%M%S')}"
