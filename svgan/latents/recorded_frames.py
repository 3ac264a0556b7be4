"""The recorded frames behind a set of codes, kept beside them (`svgan embed --frames`), for what learns from frames.

recorded-00000.parquet   a row per code, in the shards' order: video string, index int64, and the aligned crop at the
                         domain's size, uint8 [R, R, 3] as fixed-size bytes, compressed

The manifest names size and files under `recorded`. As with the frames' origins, that is no part of the set's digest:
the codes are the same. A file holds at most 128 MB of pixels, so that memory is bounded at any R; whoever reads them
maps one array from the machine's cache, where all processes share it.

Axes: N frame, R pixels of the domain.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from svgan.assets import cache
from svgan.errors import UserError
from svgan.io import storage
from svgan.io.atomic import disk_errors, write_whole
from svgan.io.transfers import Transfer
from svgan.latents import shard_cache
from svgan.latents.manifest import Latents

AT_MOST = 128 * 2**20  # bytes of pixels in a file
NAME = "recorded-{:05d}.parquet"
REMEDY = "embed the videos again with svgan embed --frames"

Put = Callable[[str, bytes], dict]  # writes a file of the set; how the manifest lists it
Rows = Iterable[tuple[str, int, np.ndarray]]  # video, frame number, crop uint8 [R, R, 3]


def put_recorded(put: Put, rows: Rows, total: int) -> dict:
    """Write the frames of `total` codes, some at a time; the manifest's entry. Raises UserError where they are not as
    many, or of two sizes."""
    there = iter(rows)
    files: list[dict] = []
    size, count = 0, 0
    while first := next(there, None):
        size = size or len(first[2])
        part = [first, *islice(there, max(1, AT_MOST // (3 * size * size)) - 1)]
        if any(crop.shape != (size, size, 3) for _, _, crop in part):
            raise UserError(f"recorded frames: not all of {size} px; {REMEDY}")
        files.append({"rows": len(part), **put(NAME.format(len(files)), _pack(part, size))})
        count += len(part)
    if count != total:
        raise UserError(f"recorded frames: {count} for {total} codes; {REMEDY}")
    return {"size": size, "shards": files}


def _pack(part: list[tuple[str, int, np.ndarray]], size: int) -> bytes:
    pixels = pa.py_buffer(np.stack([crop for *_, crop in part]))
    columns = {
        "video": pa.array([name for name, *_ in part], pa.string()),
        "index": pa.array([number for _, number, _ in part], pa.int64()),
        "picture": pa.FixedSizeBinaryArray.from_buffers(pa.binary(3 * size * size), len(part), [None, pixels]),
    }
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), out, compression="zstd", use_dictionary=["video"], write_statistics=False)
    return out.getvalue().to_pybytes()


def open_recorded(latents: Latents) -> np.ndarray:
    """The frames uint8 [N, R, R, 3], a row per code, mapped from this machine's cache. Raises UserError where none were
    kept, a file is missing or damaged, and on a full disk."""
    check_kept(latents)
    kept = latents.manifest.recorded
    name = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
    shape = (len(latents.codes), kept["size"], kept["size"], 3)
    return frame_map(name, shape, lambda: _read(latents, kept))


def check_kept(latents: Latents) -> None:
    """Raises UserError where no recorded frames lie beside the codes."""
    if not latents.manifest.recorded:
        raise UserError(
            f"--footage: {latents.uri} keeps no recorded frames beside its codes; {REMEDY}, or name them (not in "
            "studies)"
        )


def _read(latents: Latents, kept: dict) -> Iterator[np.ndarray]:
    done, transfer = 0, Transfer("reading recorded frames")
    for entry in kept["shards"]:
        where = storage.join(latents.uri, entry["name"])
        try:
            data = shard_cache.check_digest(storage.read_or_explain(where, entry["bytes"]), entry["sha256"])
        except shard_cache.Corrupt:
            raise UserError(f"{where}: corrupt (sha256 differs from the manifest's); {REMEDY}") from None
        if data is None:
            raise UserError(f"{where}: missing, though the manifest lists it; {REMEDY}")
        transfer.moved(len(data))
        try:
            table = pq.read_table(pa.BufferReader(data))
            numbers = table.column("index").to_numpy()
            column = table.column("picture").combine_chunks()
        except (pa.ArrowException, KeyError) as error:
            raise UserError(f"{where}: holds no recorded frames ({error}); {REMEDY}") from error
        rows = slice(done, done + len(column))
        done += len(column)
        if not np.array_equal(numbers, latents.index[rows]):
            raise UserError(f"{where}: is of other frames than the codes; {REMEDY}")
        size = kept["size"]
        yield np.frombuffer(column.buffers()[1], np.uint8, 3 * size * size * len(column)).reshape(-1, size, size, 3)


def frame_map(name: str, shape: tuple[int, ...], parts: Callable[[], Iterator[np.ndarray]]) -> np.ndarray:
    """Frames uint8 of that shape under `name` in the cache, mapped; made of `parts`, in order, where they are not there
    or broken. Of several processes that want them one makes them, and the others wait. Raises UserError on a full
    disk."""
    path = cached_frames(name)
    if (found := map_frames(path, shape)) is not None:
        return found
    with disk_errors(path), FileLock(path.with_suffix(".lock")):
        if map_frames(path, shape) is None:
            _make(path, shape, parts)
    found = map_frames(path, shape)
    assert found is not None
    return found


def _make(path: Path, shape: tuple[int, ...], parts: Callable[[], Iterator[np.ndarray]]) -> None:
    with write_whole(path) as aside, aside.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        written = sum(file.write(np.ascontiguousarray(part).data) for part in parts())
        if written != math.prod(shape):
            raise UserError(f"recorded frames: {written} bytes for {math.prod(shape)}; {REMEDY}")


def cached_frames(name: str) -> Path:
    return cache.cache_folder() / "frames" / f"{name}.npy"


def map_frames(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """None where there is no file of such an array."""
    try:
        found = np.load(path, mmap_mode="c")
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.uint8 else None
