"""Read other people's pickles without running anything in them: an unpickler with a short list of allowed names.

Pickle calls whatever it names. Here every name outside the list raises UserError, so a hostile file ends in one line
instead of in code.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray

from svgan.errors import UserError, one_line

NUMPY = {
    (module, name): found
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name, found in {"_reconstruct": multiarray._reconstruct, "scalar": multiarray.scalar}.items()
} | {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}

PLAIN = (str, bytes, int, float, bool, type(None))
# Opcodes that no checkpoint has: names by number, and buffers that lie elsewhere or are cleared before they are read.
DROPPED = (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.BYTEARRAY8)
# Opcodes that hash keys, and the items on the stack that they hash.
HASHING = {
    pickle.SETITEM: slice(-2, -1),
    pickle.SETITEMS: slice(None, None, 2),
    pickle.DICT: slice(None, None, 2),
    pickle.ADDITEMS: slice(None),
    pickle.FROZENSET: slice(None),
}


def _opcodes() -> dict[int, Callable[[Any], None]]:
    codes = dict(pickle._Unpickler.dispatch)
    for code in DROPPED:
        del codes[code[0]]
    for code, keys in HASHING.items():
        codes[code[0]] = _with_plain_keys(codes[code[0]], keys)
    return codes | {pickle.BUILD[0]: _build}


def _with_plain_keys(load: Callable[[Any], None], keys: slice) -> Callable[[Any], None]:
    """Refuse keys that are not plain: the hash of a tuple nested some 200 000 deep crashes Python."""

    def checked(reader: Any) -> None:
        for key in reader.stack[keys]:
            if not isinstance(key, PLAIN) and not (isinstance(key, tuple) and all(isinstance(k, PLAIN) for k in key)):
                raise pickle.UnpicklingError(f"a key of type {type(key).__name__}")
        load(reader)

    return checked


def _build(reader: Any) -> None:
    """Set the state of objects that expect one; set attributes of nothing else."""
    state, target = reader.stack.pop(), reader.stack[-1]
    if not hasattr(type(target), "__setstate__"):
        raise pickle.UnpicklingError(f"a state for a {type(target).__name__}")
    target.__setstate__(state)


class AllowList(pickle._Unpickler):
    """An unpickler that accepts the names in `allowed` only. Any failure is a UserError.

    It is Python's own unpickler in Python: a file of a few bytes can make the one in C ask for 64 GB, or crash. stream:
    any object with `read` and `readline`, such as a file, BytesIO or mmap.
    """

    dispatch = _opcodes()

    def __init__(self, stream: Any, allowed: Mapping[tuple[str, str], Any], source: str):
        super().__init__(stream)
        self.allowed, self.source = allowed, source

    def load(self) -> Any:
        try:
            return super().load()
        except UserError:
            raise
        except EOFError as error:
            raise UserError(f"{self.source}: breaks off in the middle; fetch it again") from error
        except Exception as error:  # whatever a damaged file may bring about
            reason = one_line(error) or type(error).__name__
            raise UserError(f"{self.source}: a damaged pickle, or none ({reason}); fetch it again") from error

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise UserError(
                f"{self.source}: refuses to load '{module}.{name}' from a pickle: what a pickle names it can call, "
                "and weights need no such thing; use a trusted file"
            )
        return self.allowed[module, name]


def load_numpy(path: Path) -> Any:
    """The containers and numpy arrays of a pickle file; anything else in it raises UserError."""
    with open(path, "rb") as stream:
        return AllowList(stream, NUMPY, str(path)).load()
