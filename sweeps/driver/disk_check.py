"""The disk space that a study needs, computed beforehand from the sizes of its recipe's tensors."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from svgan.errors import UserError
from sweeps.storage.paths import is_remote
from sweeps.storage.plan import KEPT_CHECKPOINTS, Plan

if TYPE_CHECKING:
    from svgan.training.config import RunConfig
    from svgan.training.data import Material


def state_bytes(run: RunConfig, material: Material) -> tuple[int, int]:
    """Bytes of a checkpoint's tensors for this run, and of its generator alone. Allocates nothing of that size."""
    import torch

    from svgan.training import checkpoint, registry

    space = registry.get(run.system).space(run, material)
    with torch.device("meta"):
        tensors = registry.build_state(run, space, device="meta").tensors()
    generator = sum(tensor.nbytes for name, tensor in tensors.items() if name.startswith(checkpoint.SAMPLED))
    return sum(tensor.nbytes for tensor in tensors.values()), generator


def check_disk(plan: Plan, checkpoint: int, generator: int) -> int:
    """Raise UserError if a disk cannot hold what the study may keep; return the bytes.

    For each seed, a trial keeps two checkpoints with its best generator beside each, three while one is written. MLflow
    keeps one generator per improvement. A worker's scratch folder holds the best generator, and with its copy each the
    checkpoint being written and the one being uploaded.
    """
    checkpoint, generator = plan.search.seeds * checkpoint, plan.search.seeds * generator
    storage = (KEPT_CHECKPOINTS * plan.search.trials + plan.compute.concurrency) * (checkpoint + generator)
    models = plan.search.trials * plan.search.reports * generator
    asked: dict[int, tuple[Path, int]] = {}
    for place, need in (
        (None if is_remote(plan.output.storage) else Path(plan.output.storage.removeprefix("file://")), storage),
        (artifact_folder(plan.output.tracking), models),
        (Path(tempfile.gettempdir()), plan.compute.concurrency * (2 * checkpoint + 3 * generator)),
    ):
        if place is None:
            continue
        folder = next(parent for parent in (place, *place.absolute().parents) if parent.exists())
        first, known = asked.get(folder.stat().st_dev, (folder, 0))
        asked[folder.stat().st_dev] = (first, known + need)
    for folder, need in asked.values():
        free = shutil.disk_usage(folder).free + kept_already(plan, folder)
        if need > free:
            raise UserError(
                f"disk: {folder} has {size(free)} free, the study may keep {size(need)} there "
                f"({KEPT_CHECKPOINTS} checkpoints of {size(checkpoint)} for each of {plan.search.trials} "
                "trials, and models); free some, ask for fewer --trials, or choose another --storage"
            )
    return storage + models


def artifact_folder(tracking: str) -> Path | None:
    """Where MLflow keeps artifacts beside a SQLite file; None behind a server."""
    path = tracking.removeprefix("sqlite:///")
    return None if path == tracking else Path(path).parent / "mlartifacts"


def kept_already(plan: Plan, folder: Path) -> int:
    """Bytes that a resumed study already has on the disk of `folder`: they are part of what it keeps."""
    own = Path(plan.output.folder)
    if not own.exists() or own.stat().st_dev != folder.stat().st_dev:
        return 0
    return sum(path.stat().st_size for path in own.rglob("*") if path.is_file())


def size(count: float) -> str:
    """Bytes in readable form: 14 MB, 1.2 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
