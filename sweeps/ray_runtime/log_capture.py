"""Send the logs of Ray, Tune, Optuna and MLflow to a file, so that the terminal shows the table."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from sweeps.ray_runtime import internals

NOISY = ("ray", "mlflow", "alembic", "optuna", "sweeps", "py.warnings", "matplotlib", "filelock", "s3fs", "botocore")


class LogFile(logging.FileHandler):
    """A log file that stays silent when its disk is full: the study says in one line which disk it is."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextlib.contextmanager
def quiet(path: Path) -> Iterator[Path]:
    """Send these loggers to the file while the block runs.

    The file's handler sits on the root logger: `ray.init(configure_logging=False)` empties Ray's own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.root.addHandler(handler)
    before = []
    for name in NOISY:
        logger = logging.getLogger(name)
        before.append((logger, logger.handlers[:], logger.propagate, logger.level))
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.WARNING if name == "alembic" else logging.INFO)
    logging.captureWarnings(True)
    try:
        with internals.raylet_errors_to(logging.getLogger("ray").warning):
            yield path
    finally:
        logging.captureWarnings(False)
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        logging.root.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()


def settings() -> None:
    """Set the variables that keep Ray, Tune and MLflow from printing; call this before they are imported."""
    for name, value in {
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_WARN_THRESHOLD_S": "5",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed or halted trial's last result has no metric
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # stop_request.interruptible has its own
        "AWS_RETRY_MODE": "standard",
        "AWS_MAX_ATTEMPTS": "6",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "1",
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
        "MLFLOW_CONFIGURE_LOGGING": "0",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }.items():
        os.environ.setdefault(name, value)
