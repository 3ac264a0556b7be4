"""The one place that uses what MLflow does not publish: where its package keeps the migrations of its database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.storage.tested_versions import may_use_internals

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory


def migrations() -> ScriptDirectory | None:
    """Alembic's migrations of MLflow's own database; None where their place is not known.

    Internal: the folder `store/db_migrations` of the package. MLflow publishes `mlflow db upgrade`, which migrates, and
    nothing that compares. Public way: None. MLflow then judges an older database itself, when it opens it.
    """
    if not may_use_internals("mlflow"):
        return None
    import mlflow
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
