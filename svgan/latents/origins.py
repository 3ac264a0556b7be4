"""The origin of each code: a sidecar of a set of latents, with which a frame can be pasted back.

    frames.parquet   a row per code, in the shards' order: video string, index int64, pts int64, time float64 (seconds),
                     landmarks 68 x 2 and transform 2 x 3, both float32 as fixed-size bytes; compressed. Its schema's
                     metadata holds the format's version and, by video, the source's digest

The manifest names the file and its sha256 under `frames`. The file is not part of the set's digest, because the codes
are the same with and without it. Sets without a sidecar can still be read.

Axes: N frame. Points are (x, y) in pixels of the upright source picture; a pixel's centre is a whole number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FORMAT = 1
NAME = "frames.parquet"


@dataclass(frozen=True, kw_only=True)
class Origins:
    """The origins of one video's codes.

    source: the file's digest (16 hex digits). pts [N] int64, in the file's units, and time [N] float64, in seconds.
    landmarks [N, 68, 2] float32, unsmoothed. transform [N, 2, 3] float32: the similarity that maps (u, v, 1), 0 to 1
    across and down the crop, to the source's pixels.
    """

    source: str
    pts: np.ndarray
    time: np.ndarray
    landmarks: np.ndarray
    transform: np.ndarray

    def __getitem__(self, rows: np.ndarray | slice) -> Origins:
        parts = {name: getattr(self, name)[rows] for name in ("pts", "time", "landmarks", "transform")}
        return Origins(source=self.source, **parts)

    @property
    def quads(self) -> np.ndarray:
        """The crops' corners [N, 4, 2]: top left, bottom left, bottom right, top right."""
        across, down, origin = np.moveaxis(self.transform, -1, 0)
        return np.stack([origin, origin + down, origin + across + down, origin + across], axis=1)


def transforms(quads: np.ndarray) -> np.ndarray:
    """Transforms [N, 2, 3] of crops with corners [N, 4, 2]."""
    return np.stack([quads[:, 3] - quads[:, 0], quads[:, 1] - quads[:, 0], quads[:, 0]], axis=-1).astype(np.float32)


def pack(parts: list[tuple[str, np.ndarray, Origins]]) -> bytes:
    """The sidecar's bytes, from each video's name, index [N] and origins."""
    sources = {name: origins.source for name, _, origins in parts}
    columns: dict[str, Any] = {
        "video": pa.array([name for name, index, _ in parts for _ in index], pa.string()),
        "index": np.concatenate([index for _, index, _ in parts]).astype(np.int64),
        "pts": np.concatenate([o.pts for *_, o in parts]).astype(np.int64),
        "time": np.concatenate([o.time for *_, o in parts]).astype(np.float64),
        "landmarks": _bytes(np.concatenate([o.landmarks for *_, o in parts])),
        "transform": _bytes(np.concatenate([o.transform for *_, o in parts])),
    }
    table = pa.table(columns).replace_schema_metadata({"format": str(FORMAT), "sources": json.dumps(sources)})
    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression="zstd", use_dictionary=["video"], write_statistics=False)
    return out.getvalue().to_pybytes()


def unpack(data: bytes) -> dict[str, tuple[np.ndarray, Origins]]:
    """Index [N] and origins by video. Raises ValueError for another format, or no sidecar."""
    try:
        table = pq.read_table(pa.BufferReader(data))
        meta = table.schema.metadata or {}
        version = int(meta.get(b"format", b"0"))
        if version != FORMAT:
            raise ValueError(f"format {version}, this svgan reads {FORMAT}")
        sources = json.loads(meta[b"sources"])
        names = np.array(table.column("video").to_pylist())
        index, pts, time = (table.column(name).to_numpy() for name in ("index", "pts", "time"))
        landmarks, transform = _floats(table, "landmarks", (68, 2)), _floats(table, "transform", (2, 3))
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(f"not a sidecar of frames ({error})") from error
    found = {}
    for name, source in sources.items():
        rows = names == name
        whole = Origins(source=source, pts=pts, time=time, landmarks=landmarks, transform=transform)
        found[name] = (index[rows], whole[rows])
    return found


def _bytes(values: np.ndarray) -> pa.Array:
    flat = np.ascontiguousarray(values, "<f4").reshape(len(values), -1)
    size = pa.binary(flat.shape[1] * 4)
    return pa.FixedSizeBinaryArray.from_buffers(size, len(flat), [None, pa.py_buffer(flat.tobytes())])


def _floats(table: pa.Table, name: str, shape: tuple[int, int]) -> np.ndarray:
    column = table.column(name).combine_chunks()
    if column.type != pa.binary(4 * shape[0] * shape[1]):
        raise KeyError(f"{name} of type {column.type}")
    return np.frombuffer(column.buffers()[1], "<f4", count=len(column) * shape[0] * shape[1]).reshape(-1, *shape)
