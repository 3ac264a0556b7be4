"""The effects of a study's driver, counted from outside, and its death just before one of them.

An effect is a change that the driver makes elsewhere: a file of the record, a write to Optuna's storage or to MLflow,
the kept plan. `watch` wraps the functions that make them. Reads are no effects, and neither is what depends on a clock:
signs of life, messages, the hours used.
"""

import contextlib
import functools
import os
import signal
import threading
from pathlib import Path

import psutil

OF_OPTUNA = (
    "create_new_study",
    "delete_study",
    "set_study_user_attr",
    "create_new_trial",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_state_values",
)
OF_MLFLOW = ("create_", "delete_", "finalize_", "log_", "set_", "update_")
IN_STORAGE = ("create", "write")


def watch(log: Path, dies_at: int = 0) -> None:
    """Write the name of every effect of this process to `log`. dies_at: the number of the effect, from 1, before which
    it dies with all processes below it; 0 for none.
    """
    from mlflow import MlflowClient
    from optuna.storages import RDBStorage

    from svgan.io import storage
    from sweeps.storage.plan import Plan

    driver, one, count = os.getpid(), threading.Lock(), 0

    def happens(name: str) -> None:
        nonlocal count
        with one:
            if os.getpid() != driver:
                return
            count += 1
            if count == dies_at:
                die()
            with log.open("a") as file:
                file.write(f"{name}\n")

    def wrap(owner, name, relevant=lambda *arguments: True):
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def outer(*arguments, **named):
            if relevant(*arguments):
                happens(f"{owner.__name__.rpartition('.')[2]}.{name}")
            return inner(*arguments, **named)

        setattr(owner, name, outer)

    wrap(Plan, "save")
    for name in IN_STORAGE:
        wrap(storage, name, lambda uri, *more: "/record/" in uri)
    for name in OF_OPTUNA:
        wrap(RDBStorage, name)
    for name in [name for name in vars(MlflowClient) if name.startswith(OF_MLFLOW)]:
        wrap(MlflowClient, name)


def die() -> None:
    """The power cut: this process and all below it, at once."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    os.kill(os.getpid(), signal.SIGKILL)
