"""Reading other people's pickles without running anything in them: an unpickler with a short list of allowed names.

Pickle executes whatever callable it names. Here every name outside the list raises UserError, so that a hostile
file ends in one line instead of in code.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray

from svgan.errors import UserError

NUMPY = {
    (module, name): found
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name, found in {"_reconstruct": multiarray._reconstruct, "scalar": multiarray.scalar}.items()
} | {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}


class AllowList(pickle.Unpickler):
    """An unpickler that knows the names in `allowed` and no others."""

    def __init__(self, stream: Any, allowed: Mapping[tuple[str, str], Any], source: str):
        super().__init__(stream)
        self.allowed, self.source = allowed, source

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise UserError(f"{self.source}: refuses to load '{module}.{name}' from a pickle; use a trusted file")
        return self.allowed[module, name]


def load_numpy(path: Path) -> Any:
    """The containers and numpy arrays of a pickle file; anything else in it raises UserError."""
    with open(path, "rb") as stream:
        return AllowList(stream, NUMPY, str(path)).load()


class _Record(dict):
    """Stands in for a TorchScript module: its attributes, no behaviour."""

    def __setstate__(self, state: dict) -> None:
        self.update(state)


class _ScriptPickle(AllowList):
    """data.pkl of a TorchScript archive: modules become records, tensors become numpy arrays."""

    def __init__(self, archive: zipfile.ZipFile, root: str, source: str):
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")), {}, source)
        self.archive, self.root = archive, root
        self.allowed = {
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
            ("collections", "OrderedDict"): dict,
            ("torch.jit._pickle", "build_intlist"): list,
        }

    def find_class(self, module: str, name: str) -> Any:
        return _Record if module.startswith("__torch__.") else super().find_class(module, name)

    def persistent_load(self, pid: tuple) -> np.ndarray:
        _, dtype, key, _, _ = pid
        return np.frombuffer(self.archive.read(f"{self.root}/data/{key}"), dtype)

    @staticmethod
    def _tensor(storage: np.ndarray, offset: int, shape: tuple, stride: tuple, *_: Any) -> np.ndarray:
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        if min((offset, *shape, *stride), default=0) < 0 or last >= len(storage):
            raise UserError("TorchScript archive: a tensor reaches outside its storage; use a trusted file")
        steps = tuple(s * storage.itemsize for s in stride)
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps).copy()


def load_torchscript(path: Path) -> dict[str, np.ndarray]:
    """The named tensors (float32, int64) of a TorchScript archive, its code neither compiled nor run."""
    with zipfile.ZipFile(path) as archive:
        data = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
        if data is None:
            raise UserError(f"{path}: not a TorchScript archive (no data.pkl)")
        tree = _ScriptPickle(archive, data.rsplit("/", 1)[0], str(path)).load()
    return dict(_arrays(tree, ""))


def _arrays(node: Mapping, prefix: str) -> Any:
    for name, value in node.items():
        if isinstance(value, np.ndarray):
            yield prefix + name, value
        elif isinstance(value, Mapping):
            yield from _arrays(value, f"{prefix}{name}.")
