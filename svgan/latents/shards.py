"""W+ codes of videos as Parquet shards with a manifest; written whole, checked on reading.

A set of latents is a folder (local or behind an fsspec URL):
  manifest.json         version, domain, layers, width, fps, rows, shards, videos, stats; the last file to appear
  shard-00000.parquet   video string, index int64 (frame number in the source), code fixed-size bytes;
                        behind a URL its digest is in its name, so that nobody overwrites another's
  stats.safetensors     mean, std [L D], basis [C, L D], scale [C], all float32
  frames.parquet        where each code came from (`origins`); sets made before 2026-11-22 have none
  recorded-...parquet   the recorded frames (`recorded_frames`), if they were asked for

A code is the C-ordered bytes of a float16 [L, D]; type and shape stand in the schema metadata. This reads ten to forty
times as fast as lists of floats (docs/papers.md#first-measurements). Codes are not compressed: zstd saves 8 % of the
bytes and slows reading twelvefold (docs/traps.md). Shards are read in parallel; remote ones are kept on the node
(`shard_cache`).

Axes: N frame, L W+ layer, D width of W, C component.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from svgan.errors import UserError
from svgan.io import storage
from svgan.io.publish import publish
from svgan.io.storage_errors import storage_errors
from svgan.io.transfers import Transfer
from svgan.latents import origins, shard_cache
from svgan.latents.manifest import MANIFEST, REMEDY, STATS, Latents, Manifest, VideoCodes, read_manifest
from svgan.latents.origins import Origins
from svgan.latents.recorded_frames import Rows, put_recorded
from svgan.latents.stats import principal_axes

THREADS = 8  # shards that are read at a time


def write_latents(
    uri: str | Path,
    videos: Iterable[VideoCodes],
    *,
    domain: str,
    fps: float,
    shard_rows: int = 2048,
    components: int = 64,
    recorded: Recorded | None = None,
) -> Manifest:
    """Write a set of latents. `videos` may be a generator; codes are kept as float16 meanwhile.

    recorded: a function of a video's name and origins that gives its frames in order, to be kept beside the codes.

    Raises UserError for a place that is taken, codes of differing shapes, a repeated name, an index that does not
    increase, NaN or infinite codes, or no frame at all. Nothing is left under `uri` then.
    """
    uri = str(uri)
    with publish(uri, last=MANIFEST) as folder:
        names, rows, codes, index, known = _collect(videos)
        shape = codes.shape[1:]
        shards = []
        table = _table(names, index, codes)
        for number, start in enumerate(range(0, len(codes), shard_rows)):
            part = table.slice(start, shard_rows)
            shards.append({"rows": part.num_rows, **_put(folder, uri, f"shard-{number:05d}.parquet", _pack(part))})
        manifest = Manifest(
            domain=domain,
            layers=shape[0],
            width=shape[1],
            fps=float(fps),
            rows=len(codes),
            shards=shards,
            videos=rows,
            stats=_put_stats(folder, uri, codes, components),
            frames=_put(folder, uri, origins.NAME, origins.pack(known)) if len(known) == len(rows) else {},
            recorded=put_recorded(partial(_put, folder, uri), _frames(known, recorded), len(codes)) if recorded else {},
        )
        with storage_errors(uri, "write"):
            (folder / MANIFEST).write_text(json.dumps(manifest.to_json(), indent=1) + "\n")
    return manifest


Known = list[tuple[str, np.ndarray, Origins]]
Recorded = Callable[[str, Origins], Iterable[np.ndarray]]


def _frames(known: Known, recorded: Recorded) -> Rows:
    for name, index, sources in known:
        for number, frame in zip(index.tolist(), recorded(name, sources), strict=True):
            yield name, number, frame


def _collect(videos: Iterable[VideoCodes]) -> tuple[list[str], list[dict], np.ndarray, np.ndarray, Known]:
    """The video name of each frame, manifest rows of the videos, codes float16 [N, L, D], index [N], origins if
    known.
    """
    known: Known = []
    names: list[str] = []
    rows: list[dict] = []
    parts: list[np.ndarray] = []
    indices: list[np.ndarray] = []
    for item in videos:
        if any(row["name"] == item.name for row in rows):
            raise UserError(f"{item.name}: two videos of this name; rename one")
        index = np.asarray(item.index, np.int64)
        if not len(index) or item.codes.ndim != 3 or len(item.codes) != len(index) or (np.diff(index) <= 0).any():
            raise UserError(f"{item.name}: needs codes [N, L, D] with N > 0 and an increasing index [N]")
        if parts and item.codes.shape[1:] != parts[0].shape[1:]:
            raise UserError(f"{item.name}: codes of shape {item.codes.shape[1:]}, the others {parts[0].shape[1:]}")
        with np.errstate(over="ignore"):
            half = item.codes.astype("<f2", copy=False)
        _check_finite(half, index, [item.name] * len(index), "not written")
        names += [item.name] * len(index)
        rows.append({"name": item.name, "rows": len(index), "first": int(index[0]), "last": int(index[-1])})
        parts.append(half)
        indices.append(index)
        if item.origins is not None:
            known.append((item.name, index, item.origins))
    if not parts:
        raise UserError("no video to write: every video failed, or none was given")
    codes = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return names, rows, codes, np.concatenate(indices), known


def _table(names: list[str], index: np.ndarray, codes: np.ndarray) -> pa.Table:
    size = codes[0].nbytes
    buffer = pa.py_buffer(np.ascontiguousarray(codes))
    packed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(codes), [None, buffer])
    meta = {"dtype": "float16", "shape": json.dumps(list(codes.shape[1:]))}
    schema = pa.schema([("video", pa.string()), ("index", pa.int64()), ("code", pa.binary(size))], metadata=meta)
    return pa.Table.from_arrays([pa.array(names, pa.string()), pa.array(index), packed], schema=schema)


def _pack(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression="none", use_dictionary=["video"], write_statistics=False)
    return out.getvalue().to_pybytes()


def _put(folder: Path, uri: str, name: str, data: bytes) -> dict:
    """Write a file of the set; return its entry in the manifest."""
    digest = hashlib.sha256(data).hexdigest()
    if not storage.is_local(uri):
        stem, dot, suffix = name.partition(".")
        name = f"{stem}-{digest[:12]}{dot}{suffix}"
    with storage_errors(uri, "write"):
        (folder / name).write_bytes(data)
    return {"name": name, "bytes": len(data), "sha256": digest}


def _put_stats(folder: Path, uri: str, codes: np.ndarray, components: int) -> dict:
    from safetensors.numpy import save

    flat = codes.reshape(len(codes), -1).astype(np.float32)
    mean = flat.mean(0, dtype=np.float64).astype(np.float32)
    flat -= mean
    width = codes.shape[2]  # a layer at a time: of 18 x 512 codes of ten minutes a whole square is half a gigabyte
    layers = (np.square(flat[:, at : at + width]) for at in range(0, flat.shape[1], width))
    std = np.sqrt(np.concatenate([np.mean(layer, 0, dtype=np.float64) for layer in layers])).astype(np.float32)
    basis, scale = principal_axes(flat, components)
    data = save({"mean": mean, "std": std, "basis": basis, "scale": scale})
    return {"components": len(basis), **_put(folder, uri, STATS, data)}


def open_latents(uri: str | Path, *, domain: str | None = None, verify: bool = True) -> Latents:
    """Load a set of latents; check each file against its sha256 (`verify`), and every code for NaN.

    domain: the digest that the codes must belong to, None for any. Remote files are kept on this node. Raises UserError
    that names the file, or the video and frame, at fault.
    """
    from safetensors.numpy import load

    uri = str(uri)
    manifest = read_manifest(uri)
    if domain is not None and manifest.domain != domain:
        raise UserError(
            f"{uri}: these codes belong to domain {manifest.domain[:12]}, not to the one that is used, {domain[:12]}; "
            "give the latents of that domain, or embed the videos again with it"
        )
    codes = np.empty((manifest.rows, manifest.layers, manifest.width), np.float32)
    index = np.empty(manifest.rows, np.int64)
    counts = [int(shard["rows"]) for shard in manifest.shards]
    if sum(counts) != manifest.rows:
        raise UserError(f"{uri}: the shards hold {sum(counts)} frames, the manifest says {manifest.rows}; {REMEDY}")

    def part(shard: dict, start: int) -> tuple[list[str], bool]:
        rows = slice(start, start + int(shard["rows"]))
        return _read_shard(uri, shard, manifest, verify, codes[rows], index[rows])

    with ThreadPoolExecutor(THREADS) as pool:
        stats = pool.submit(_fetch, uri, manifest.stats, verify)
        starts = accumulate([0, *counts[:-1]])
        parts = [pool.submit(part, shard, start) for shard, start in zip(manifest.shards, starts, strict=True)]
        try:
            read = [one.result() for one in parts]
            loaded = load(stats.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    names = [name for own, _ in read for name in own]
    if not all(finite for _, finite in read):
        _check_finite(codes, index, names, REMEDY)
    return Latents(
        uri=uri, manifest=manifest, codes=codes, video=_video_rows(uri, names, manifest), index=index, **loaded
    )


def open_origins(latents: Latents) -> dict[str, Origins]:
    """The origins of the codes by video, in the order of its codes; {} for a set without them.

    Raises UserError if the sidecar is missing, damaged, of another format, or does not fit the codes.
    """
    entry = latents.manifest.frames
    if not entry:
        return {}
    try:
        found = origins.unpack(_fetch(latents.uri, entry, verify=True))
    except ValueError as error:
        raise UserError(f"{storage.join(latents.uri, entry['name'])}: {error}; {REMEDY}") from error
    for row, video in enumerate(latents.manifest.videos):
        index = latents.index[latents.video == row]
        if video["name"] not in found or not np.array_equal(found[video["name"]][0], index):
            raise UserError(f"{latents.uri}: {entry['name']} is of other frames than the codes; {REMEDY}")
    return {name: known for name, (_, known) in found.items()}


def _fetch(uri: str, entry: dict, verify: bool) -> bytes:
    where = storage.join(uri, entry["name"])
    try:
        if not verify:
            data = storage.read_or_explain(where, entry.get("bytes"))
        elif storage.is_local(uri):
            data = shard_cache.check_digest(storage.read_or_explain(where), entry["sha256"])
        else:
            data = shard_cache.fetch(entry["sha256"], lambda: storage.read_or_explain(where, entry.get("bytes")))
    except shard_cache.Corrupt:
        raise UserError(f"{where}: corrupt (sha256 differs from the manifest's); {REMEDY}") from None
    if data is None:
        raise UserError(f"{where}: missing, though the manifest lists it; {REMEDY}")
    Transfer("reading codes").moved(len(data))
    return data


def _read_shard(
    uri: str, entry: dict, manifest: Manifest, verify: bool, codes: np.ndarray, index: np.ndarray
) -> tuple[list[str], bool]:
    """Read one shard into codes float32 [n, L, D] and index [n]; return its frames' videos, and whether all codes are
    finite (by their sum).
    """
    import torch

    where = storage.join(uri, entry["name"])
    data = _fetch(uri, entry, verify)
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        meta = table.schema.metadata or {}
        dtype, shape = meta[b"dtype"].decode(), tuple(json.loads(meta[b"shape"]))
        column = table.column("code")
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which copies even one
        names, numbers = table.column("video").to_pylist(), table.column("index").to_numpy()
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise UserError(f"{where}: not a shard of W+ codes ({error}); {REMEDY}") from error
    expected = (manifest.layers, manifest.width)
    if dtype != "float16" or shape != expected or column.type != pa.binary(2 * expected[0] * expected[1]):
        raise UserError(f"{where}: codes of {dtype} {shape}, the manifest says float16 {expected}; {REMEDY}")
    if len(column) != len(codes):
        raise UserError(f"{where}: holds {len(column)} frames, the manifest says {len(codes)}; {REMEDY}")
    half = torch.frombuffer(column.buffers()[1], dtype=torch.float16, count=codes.size)
    torch.from_numpy(codes).view(-1).copy_(half)  # five times numpy's speed
    index[:] = numbers
    return names, math.isfinite(half.sum())


def _check_finite(codes: np.ndarray, index: np.ndarray, names: list[str], remedy: str) -> None:
    finite = np.isfinite(codes).all((1, 2))
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise UserError(
            f"{names[row]}: NaN or infinity in the code of frame {index[row]} ({int((~finite).sum())} such frames); "
            f"{remedy}"
        )


def _video_rows(uri: str, names: list[str], manifest: Manifest) -> np.ndarray:
    rows = {video["name"]: row for row, video in enumerate(manifest.videos)}
    unknown = set(names) - set(rows)
    if unknown:
        raise UserError(f"{uri}: frames of {sorted(unknown)[0]!r}, which the manifest does not list; {REMEDY}")
    return np.array([rows[name] for name in names], np.int32)
