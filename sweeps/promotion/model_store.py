"""Download models from MLflow, and load the data that a study's models are measured on."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.storage.plan import Plan

if TYPE_CHECKING:
    import torch

    from svgan.training.data import Material

DOMAIN = "domain"  # the folder beside a champion's generator that holds what renders it


def at_hand(plan: Plan) -> tuple[Material, torch.device]:
    """The study's training data, and this machine's device.

    Uses as many threads as a worker has: bfloat16 sums, and FVD with them, depend on their number (docs/traps.md).
    """
    import torch

    from svgan.torch_utils.device import pick_device
    from sweeps.trial.training import material_of

    torch.set_num_threads(max(1, int(plan.compute.cpus_per_worker)))
    device = pick_device("auto")
    return material_of(plan, device), device


@contextlib.contextmanager
def downloaded(tracking: str, uri: str) -> Iterator[Path]:
    import mlflow

    with tempfile.TemporaryDirectory(prefix="svgan-model-") as folder:
        yield Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=tracking))
