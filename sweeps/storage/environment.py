"""Defaults of flags that a cluster's yaml sets through environment variables, and whether this is a cluster's head.

A flag on the command line wins over its variable, and the variable over the built-in default. `--help` shows the
default in force. Passwords come by environment or file only, because a study's settings are stored and shown.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from svgan.errors import UserError

CLUSTER, REPO, COMMIT, PACKAGE = "SVGAN_CLUSTER", "SVGAN_REPO", "SVGAN_COMMIT", "SVGAN_PACKAGE"


def count(text: str) -> int:
    return at_least(1, int(text))


def share(text: str) -> float:
    return at_least(0, float(text))


def hours(text: str) -> float:
    if not float(text):
        raise ValueError
    return at_least(0, float(text))


def at_least(least: int, value: Any) -> Any:
    if not least <= value < math.inf:
        raise ValueError
    return value


class Variable(NamedTuple):
    """A variable that sets a flag's default. must: what the error message asks of its value."""

    name: str
    read: Callable[[str], Any] = str
    must: str = ""


VARIABLES = {
    "latents": Variable("SVGAN_LATENTS"),
    "workers": Variable("SVGAN_WORKERS", count, "a whole number from 1"),
    "gpus_per_worker": Variable("SVGAN_GPUS_PER_WORKER", share, "a number from 0"),
    "concurrency": Variable("SVGAN_CONCURRENCY", count, "a whole number from 1"),
    "max_gpu_hours": Variable("SVGAN_MAX_GPU_HOURS", hours, "a number above 0"),
    "storage": Variable("SVGAN_STORAGE"),
    "tracking": Variable("MLFLOW_TRACKING_URI"),
}


def default(flag: str, built_in: Any = None) -> Any:
    """A flag's default in force. Raises UserError that names the variable if its value is invalid."""
    variable = VARIABLES[flag]
    text = os.environ.get(variable.name, "")
    if not text:
        return built_in
    try:
        return variable.read(text)
    except ValueError:
        raise UserError(
            f"{variable.name}={text}: must be {variable.must}; mend the environment, or give {option(flag)}"
        ) from None


def default_text(flag: str, built_in: Any) -> str:
    """The default for a flag's help, with its source: '4 from SVGAN_WORKERS', or '1, or SVGAN_WORKERS'."""
    name = VARIABLES[flag].name
    text = os.environ.get(name, "")
    if not text:
        return f"{built_in}, or {name}"
    check_passwordless(name, text)
    return f"{text} from {name}"


def option(flag: str) -> str:
    return f"--{flag.replace('_', '-')}"


def on_cluster() -> bool:
    """Whether a cluster's yaml has set this environment."""
    return os.environ.get(CLUSTER, "") not in ("", "0")


def yaml() -> str:
    """The yaml that launched this cluster, by the name that its user knows (SVGAN_CLUSTER)."""
    told = os.environ.get(CLUSTER, "")
    return told if told.endswith((".yaml", ".yml")) else "cluster/gpu.yaml"


def launched() -> bool:
    """Whether `ray up` launched this cluster, so that `ray exec` and `ray submit` reach it; Kubernetes launches
    others.
    """
    return on_cluster() and not yaml().endswith("kuberay.yaml")


def settle() -> None:
    """On a cluster, make paths relative to the home folder: a Ray Job starts in a folder that Ray removes."""
    if on_cluster():
        os.chdir(Path.home())


def check_passwordless(where: str, url: str) -> None:
    """Refuse a URL with a password, without repeating it: a study's settings are stored, logged and shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UserError(f"{where}: not a URL or path that can be read; mend it") from None
    database = parts.scheme.startswith(("postgresql", "mysql"))
    if parts.password or (parts.username and not database):
        if database:
            remedy = "PGPASSWORD or ~/.pgpass"
        elif parts.scheme in ("http", "https"):
            remedy = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        else:
            remedy = "the variables of that storage's client, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise UserError(f"{where}: no password in the URL, for study.json keeps it; use {remedy}")
