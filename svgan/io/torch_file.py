"""Read files of `torch.save`, NVIDIA's network pickles and TorchScript archives without torch.load: nothing in them is
run.

An unpickler with an allow-list (svgan.io.safe_unpickle) walks the pickle. Its names become inert records: a tensor is a
`Stored`, a record of where its bytes lie. A record is checked when a tensor is made of it. That tensor uses the bytes
of the file itself, which is mapped. So a file costs no more memory than its length, and a few bytes cannot claim a
large tensor.

Layouts: zip (torch 1.6 and later); pickles and raw bytes in a row (before); a plain pickle whose every storage is a
file of the second layout (NVIDIA's).
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.io.safe_unpickle import AllowList

LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # the number that opens a file of the second layout
TYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
NUMBERS = ("f2", "f4", "f8", "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
DEPTH, COUNT = 32, 100_000  # of modules within modules, of tensors: far beyond any network of this kind


class Table(dict):
    """A dict of the file, of any kind; it starts empty."""

    def __init__(self) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Drop attributes beside the items, such as a state dict's versions."""


class Record:
    """An object of the file: its state, without behaviour."""

    state: Any = None

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Number(Record):
    """numpy's dtype of a single number."""

    def __init__(self, code: Any, *_: Any):
        self.code = code


@dataclass(slots=True, eq=False)
class Network:
    """One of NVIDIA's modules: the name of its class, and its state. Its source code is ignored."""

    name: str
    state: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Storage:
    """Numbers in a file: `count` of them from byte `start` of `data`. data is None until a later part of the file gives
    it.
    """

    dtype: torch.dtype
    count: int
    data: Any = None
    start: int = 0


@dataclass(slots=True, eq=False)
class Stored:
    """A tensor as the file describes it. Do not trust it until `tensor` has checked it."""

    storage: Any
    offset: Any
    shape: Any
    stride: Any

    def tensor(self) -> Tensor:
        """The tensor, on the file's own bytes if their alignment allows. Raises ValueError for an impossible one."""
        storage = self.storage
        if not (isinstance(storage, Storage) and isinstance(self.shape, tuple) and isinstance(self.stride, tuple)):
            raise ValueError("a tensor without storage or sizes")
        numbers = (self.offset, storage.start, storage.count, *self.shape, *self.stride)
        if len(self.shape) != len(self.stride) or any(type(n) is not int or not 0 <= n < 2**63 for n in numbers):
            raise ValueError("a tensor of impossible sizes")
        count = math.prod(self.shape)
        if count == 0:
            return torch.empty(self.shape, dtype=storage.dtype)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if count > storage.count or last >= storage.count:
            raise ValueError("a tensor that reaches outside its storage")
        size, start, data = storage.dtype.itemsize, storage.start, storage.data
        if data is None or start + storage.count * size > len(data):
            raise ValueError("a storage that reaches outside the file")
        if isinstance(data, bytes) or start % size:
            data, start = bytearray(memoryview(data)[start : start + storage.count * size]), 0
        flat = torch.frombuffer(data, dtype=storage.dtype, count=storage.count, offset=start)
        return flat.as_strided(self.shape, self.stride, self.offset)


def tensors(named: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of a mapping; its other entries are left out.

    Raises UserError for a tensor that the file cannot hold, and if all tensors together have more bytes than the file.
    """
    made, room = {}, path.stat().st_size
    for name, stored in named.items():
        if not isinstance(stored, Stored):
            continue
        try:
            made[str(name)] = stored.tensor()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: {name}: {error}; a damaged or forged file, fetch it again") from error
        room -= made[str(name)].nbytes
        if room < 0:
            raise UserError(f"{path}: its tensors have more bytes than the file; a forged file")
    return made


def parts(network: Network, path: Path) -> Iterator[tuple[str, Network]]:
    """Every module within `network` with its dotted name, itself (named '') first. Raises UserError."""
    waiting, seen = [("", network, 0)], 0
    while waiting:
        prefix, module, depth = waiting.pop()
        children = module.state.get("_modules", {})
        seen += 1
        if depth > DEPTH or seen > COUNT or not isinstance(children, Mapping):
            raise UserError(f"{path}: modules within modules as no network has them; a forged file")
        yield prefix, module
        for name, child in reversed(list(children.items())):
            if isinstance(child, Network):
                waiting.append((f"{prefix}.{name}" if prefix else str(name), child, depth + 1))


def state_of(network: Network, path: Path) -> dict[str, Tensor]:
    """Parameters and buffers by dotted name, as `state_dict` has them, and buffers that are not persistent."""
    named: dict[str, Any] = {}
    for prefix, module in parts(network, path):
        for kind in ("_parameters", "_buffers"):
            held = module.state.get(kind, {})
            if isinstance(held, Mapping):
                named |= {f"{prefix}.{name}" if prefix else name: stored for name, stored in held.items()}
    return tensors(named, path)


class _Reader(AllowList):
    """Knows WEIGHTS. storage: a Storage from a key, a type and a count."""

    def __init__(self, stream: Any, source: str, storage: Callable[[str, torch.dtype, int], Storage]):
        super().__init__(stream, WEIGHTS, source)
        self.storage = storage

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or type(key) is not str or type(count) is not int:
            raise pickle.UnpicklingError("a storage as torch writes none")
        return self.storage(key, dtype, count)


class _ScriptReader(_Reader):
    """Reads TorchScript's data.pkl: its modules become records."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__."):
            return Record
        return list if (module, name) == ("torch.jit._pickle", "build_intlist") else super().find_class(module, name)


def _scalar(kind: Any, data: Any) -> float | int | bool:
    """A number as numpy pickles it."""
    if not isinstance(kind, Number) or kind.code not in NUMBERS:
        raise pickle.UnpicklingError("a number of a kind that no checkpoint holds")
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, f"<{kind.code}", count=1)[0].item()


def _encoded(text: str, encoding: str) -> str:
    """The bytes of a number as protocol 2 writes them; `_scalar` reads them."""
    if len(text) > 16 or encoding != "latin1":
        raise pickle.UnpicklingError("bytes that are no number's")
    return text


def _network(meta: Mapping[str, Any]) -> Network:
    name, state = meta["class_name"], meta["state"]
    if not isinstance(name, str) or not isinstance(state, Mapping):
        raise pickle.UnpicklingError("a module without a state")
    return Network(name, state)


def _nothing(*_: Any) -> tuple:
    return ()


def _first(first: Any, *_: Any) -> Any:
    return first


def _stored(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Stored:
    return Stored(storage, offset, shape, stride)


WEIGHTS: dict[tuple[str, str], Any] = {
    **{("torch", name): dtype for name, dtype in TYPES.items()},
    ("torch._utils", "_rebuild_tensor_v2"): _stored,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch", "Size"): _first,
    ("torch", "device"): _nothing,
    ("collections", "OrderedDict"): Table,
    ("argparse", "Namespace"): Record,
    ("builtins", "set"): _nothing,
    ("__builtin__", "set"): _nothing,
    ("_codecs", "encode"): _encoded,
    ("numpy", "dtype"): Number,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("dnnlib.util", "EasyDict"): Table,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _network,
}


def read(path: Path) -> Any:
    """Read a file into plain containers, Record, Network and Stored.

    Raises UserError if the file is missing, damaged or no checkpoint, and for a name that is not in WEIGHTS.
    """
    data = _mapped(path)
    if data[:4] == b"PK\x03\x04":
        return _read_zip(data, path, _Reader)
    if data[: len(LEGACY)] == LEGACY:
        return _read_rows(data, data, str(path))
    if data[:1] != pickle.PROTO:
        raise UserError(f"{path}: not a checkpoint: neither torch.save nor pickle wrote it; give a .pt or .pkl file")

    def outside(*_: Any) -> Storage:
        raise pickle.UnpicklingError("a storage outside the pickle")

    def held(content: bytes) -> Any:
        return _read_rows(io.BytesIO(content), content, str(path))

    reader = _Reader(data, str(path), outside)
    reader.allowed = WEIGHTS | {("torch.storage", "_load_from_bytes"): held}
    return reader.load()


def load_torchscript(path: Path) -> dict[str, np.ndarray]:
    """The named tensors (float32, int64) of a TorchScript archive. Its code is neither compiled nor run."""
    tree = _read_zip(_mapped(path), path, _ScriptReader)
    found = {name: value.numpy().copy() for name, value in tensors(dict(_named(tree)), path).items()}
    if not found:
        raise UserError(f"{path}: no tensors in this archive; give a TorchScript module")
    return found


def _named(tree: Any) -> Iterator[tuple[str, Stored]]:
    """The tensors of nested records by dotted name, each record visited once."""
    waiting, seen = [("", tree)], set()
    while waiting:
        prefix, node = waiting.pop()
        if isinstance(node, Stored):
            yield prefix.removesuffix("."), node
        elif isinstance(node, Record) and isinstance(node.state, Mapping) and id(node) not in seen:
            seen.add(id(node))
            waiting += [(f"{prefix}{name}.", value) for name, value in reversed(list(node.state.items()))]


def _mapped(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; give a checkpoint") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a checkpoint") from error
    except ValueError as error:
        raise UserError(f"{path}: not a checkpoint: it is empty; fetch it again") from error


def _read_zip(data: mmap.mmap, path: Path, reader: type[_Reader]) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: a damaged archive ({error}); fetch it again") from error
    root = next((name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")), None)
    if root is None:
        raise UserError(f"{path}: not an archive of torch.save (no data.pkl in it); give a checkpoint")

    def place(name: str) -> tuple[int, int]:
        """The first byte and the size of an entry."""
        if (entry := entries.get(root + name)) is None:
            raise UserError(f"{path}: {root}{name} is missing in the archive; fetch it again")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise UserError(f"{path}: {root}{name} is compressed, which torch.save never does; not unpacked")
        lengths = data[entry.header_offset + 26 : entry.header_offset + 30]
        start = entry.header_offset + 30 + sum(struct.unpack("<HH", lengths)) if len(lengths) == 4 else len(data)
        if start + entry.file_size > len(data):
            raise UserError(f"{path}: {root}{name} ends outside the file; fetch it again")
        return start, entry.file_size

    def storage(key: str, dtype: torch.dtype, count: int) -> Storage:
        start, size = place(f"data/{key}")
        if count * dtype.itemsize > size:
            raise pickle.UnpicklingError(f"storage {key} is shorter than its tensors")
        return Storage(dtype, count, data, start)

    if f"{root}byteorder" in entries:
        start, size = place("byteorder")
        if data[start : start + size] != b"little":
            raise UserError(f"{path}: written on a big-endian machine; save it again on another")
    start, size = place("data.pkl")
    return reader(io.BytesIO(data[start : start + size]), str(path), storage).load()


def _read_rows(stream: Any, data: Any, source: str) -> Any:
    """Read the second layout: magic number, protocol, system; the pickle; the storages' keys; size and bytes of
    each.
    """
    storages: dict[str, Storage] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Storage:
        known = storages.setdefault(key, Storage(dtype, count))
        if (known.dtype, known.count) != (dtype, count):
            raise pickle.UnpicklingError(f"storage {key} of two sizes")
        return known

    def part() -> Any:
        return _Reader(stream, source, storage).load()

    _, _, system = part(), part(), part()
    if isinstance(system, Mapping) and system.get("little_endian") is False:
        raise UserError(f"{source}: written on a big-endian machine; save it again on another")
    tree, keys = part(), part()
    for key in keys if isinstance(keys, list) else []:
        size = stream.read(8)
        known = storages.get(key) if type(key) is str else None
        if known is None or len(size) < 8 or struct.unpack("<q", size)[0] != known.count:
            raise UserError(f"{source}: breaks off in the middle, or a storage is not as announced")
        known.data, known.start = data, stream.tell()
        after = known.start + known.count * known.dtype.itemsize
        if known.count < 0 or after > len(data):
            raise UserError(f"{source}: breaks off in the middle; fetch it again")
        stream.seek(after)
    return tree
