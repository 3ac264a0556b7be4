"""What Ray's workers run: the tasks and the actor of the pools, and the error that one of them raised."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from svgan.errors import UserError
from svgan.faces.aligned_video import face_finder
from svgan.faces.tracking import Track, scan
from svgan.images.domain import Domain
from svgan.io import storage
from svgan.pipelines import embed as embed_steps

Arrays = dict[str, np.ndarray]


def cause_of(error: Exception) -> Exception:
    """The exception that a task raised. Ray wraps it once per task that failed because of another."""
    import ray

    cause: Any = error
    while isinstance(cause, ray.exceptions.RayTaskError) and cause.cause is not None:
        cause = cause.cause
    return cause


def scan_stretch(path: str, chunk: tuple[int, int], file: str) -> None:
    save(file, scan(_on_this_node(path), chunk, face_finder()))


def code_stretch(path: str, track: Track, rows: slice, size: int, folder: str, digest: str, file: str) -> None:
    crops, people = embed_steps.cut(_on_this_node(path), track, rows, size)
    save(file, {"codes": embed_steps.encode(domain_here(folder, digest, "cpu"), crops), "people": people})


def cut_stretch(path: str, track: Track, rows: slice, size: int) -> tuple[np.ndarray, np.ndarray]:
    return embed_steps.cut(_on_this_node(path), track, rows, size)


class Encoder:
    """A Ray actor on one GPU."""

    def __init__(self, folder: str, digest: str):
        self.domain = (folder, digest, "auto")

    def load(self) -> str:
        """Load the domain and return the node's id. In __init__, Ray would turn errors into text."""
        import ray

        domain_here(*self.domain)
        return ray.get_runtime_context().get_node_id()

    def encode(self, crops: np.ndarray, people: np.ndarray, file: str) -> None:
        save(file, {"codes": embed_steps.encode(domain_here(*self.domain), crops), "people": people})


@cache
def domain_here(folder: str, digest: str, device: str) -> Domain:
    """Load the domain once per worker. CPU tasks name their device, because Ray shows them the node's GPUs too."""
    from svgan.torch_utils.device import pick_device

    domain = Domain.load(folder, pick_device(device))
    if domain.digest != digest:
        raise UserError(f"{folder}: another domain on this node ({domain.digest}) than the driver's ({digest})")
    return domain


def _on_this_node(path: str) -> Path:
    if not Path(path).exists():
        raise UserError(f"{path}: not on every node of the cluster; put it where all of them see it")
    return Path(path)


def save(file: str, arrays: Arrays) -> None:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    storage.write(file, out.getvalue())
