"""A set of latents: its manifest, the codes of one video to be written, and the whole set in memory.

Axes: N frame, L W+ layer, D width of W, C component, S window.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from svgan.errors import UserError
from svgan.io import storage
from svgan.latents.origins import Origins

VERSION = 1
MANIFEST, STATS = "manifest.json", "stats.safetensors"
BESIDE = ("frames", "recorded")  # what lies beside the codes, and may be missing
REMEDY = "make the set again with svgan embed, or restore the file"


@dataclass(frozen=True)
class VideoCodes:
    """The codes of one video: index [N] int64, increasing; codes [N, L, D] float32 or float16; origins of the N
    frames.
    """

    name: str
    index: np.ndarray
    codes: np.ndarray
    origins: Origins | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a set of latents holds.

    `digest` identifies its codes: shards and statistics enter by their sha256, recorded frames and origins do not.
    """

    domain: str
    layers: int
    width: int
    fps: float
    rows: int
    shards: list[dict] = field(default_factory=list)  # name, rows, bytes (since 2026-11), sha256
    videos: list[dict] = field(default_factory=list)  # name, rows, first, last
    stats: dict = field(default_factory=dict)  # name, components, sha256
    version: int = VERSION
    frames: dict = field(default_factory=dict)  # name, bytes, sha256; empty where the origins are not known
    recorded: dict = field(default_factory=dict)  # size, shards (name, rows, bytes, sha256); empty where none are kept

    @property
    def digest(self) -> str:
        named = {name: value for name, value in asdict(self).items() if name not in BESIDE}
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict:
        return {name: value for name, value in asdict(self).items() if name not in BESIDE or value}


@dataclass(frozen=True, kw_only=True)
class Latents:
    """A set of latents in memory.

    codes [N, L, D] float32; video [N] int32, a row of manifest.videos; index [N] int64, frame numbers;
    mean, std [L D]; basis [C, L D]; scale [C], standard deviations along the basis; all float32.
    """

    uri: str
    manifest: Manifest
    codes: np.ndarray
    video: np.ndarray
    index: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    basis: np.ndarray
    scale: np.ndarray

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def runs(self) -> np.ndarray:
        """First rows of the runs of consecutive frames, int64 [runs + 1], and the number of rows."""
        breaks = np.flatnonzero((np.diff(self.video) != 0) | (np.diff(self.index) != 1)) + 1
        return np.array([0, *breaks, len(self.index)])

    @property
    def longest_run(self) -> int:
        """Frames of the longest run without a gap."""
        return int(np.diff(self.runs).max())

    def windows(self, length: int) -> np.ndarray:
        """The first rows [S] int64 of all windows of `length` frames that cross neither a video nor a frame gap.

        Raises UserError if every run of frames is shorter.
        """
        edges = self.runs
        lengths = np.diff(edges)
        if length > lengths.max():
            name = self.manifest.videos[self.video[edges[lengths.argmax()]]]["name"]
            raise UserError(
                f"window: {length} frames, but the longest run without a gap in {self.uri} has {lengths.max()} "
                f"(in {name}); use a shorter window or longer videos"
            )
        return np.concatenate([np.arange(a, b - length + 1) for a, b in pairwise(edges)])


def read_manifest(uri: str | Path) -> Manifest:
    """Read the manifest alone. Raises UserError if there is none, or it is broken or of another version."""
    where = storage.join(str(uri), MANIFEST)
    data = storage.read_or_explain(where)
    if data is None:
        raise UserError(f"{uri}: no {MANIFEST} here, so no set of latents; make one with svgan embed")
    try:
        fields = json.loads(data)
        if fields.get("version") != VERSION:
            raise UserError(f"{where}: version {fields.get('version')}, this svgan reads {VERSION}; embed again")
        return Manifest(**fields)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: not a manifest ({error}); {REMEDY}") from error
