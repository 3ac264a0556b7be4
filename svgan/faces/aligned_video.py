"""What the cache keeps of a video, so that landmarks (30 to 80 ms per frame) are found once.

    SVGAN_CACHE/tracks/<sha256 of the video>-v<TRACK_VERSION>/   stretches as they are scanned, and encoded
    SVGAN_CACHE/aligned/<sha256>-<size>-v<ALIGN_VERSION>.npz     crops, for commands that need all of them

Crops are frames of real people: keep them in a local cache, and never commit them.
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from svgan.assets import cache
from svgan.errors import UserError
from svgan.faces.alignment import FaceFinder, to_crop, warp
from svgan.faces.tracking import Scan, Track, follow, scan
from svgan.io import atomic
from svgan.io.video_reader import pictures, survey

TRACK_VERSION = 2  # raise it when other faces are found in the same video, or other frames are left out
ALIGN_VERSION = 2  # raise it when crops or landmarks of the same video change

Progress = Callable[[str, int], None]


@dataclass(frozen=True, kw_only=True)
class AlignedVideo:
    """The usable frames of one video, cut out.

    index: [N] int64, ticks in the source, increasing; a gap means a frame without one clear face, or a cut.
    crops: [N, S, S, 3] uint8. landmarks: [N, 68, 2] float32 in crop pixels (unsmoothed).
    quads: [N, 4, 2] float32 in source pixels (top left, bottom left, bottom right, top right).
    """

    name: str
    fps: float
    index: np.ndarray
    crops: np.ndarray
    landmarks: np.ndarray
    quads: np.ndarray

    def part(self, rows: slice) -> AlignedVideo:
        """Some of the frames."""
        own = {name: getattr(self, name)[rows] for name in ("index", "crops", "landmarks", "quads")}
        return replace(self, **own)


def track_cached(path: str | Path, progress: Progress = lambda stage, done: None) -> Track:
    """The subject's track through a video. Stretches that were scanned before are not scanned again.

    Raises UserError for a missing or undecodable video, or one without a clear face in any frame.
    """
    path = Path(path)
    folder = track_folder(video_digest(path))
    found = survey(path)
    scans: list[Scan] = []
    done = 0
    for number, chunk in enumerate(found.chunks()):

        def look(chunk: tuple[int, int] = chunk, done: int = done) -> Scan:
            return scan(path, chunk, face_finder(), lambda more: progress("landmarks", done + more))

        scans.append(cached_arrays(folder / f"faces-{number:05d}.npz", look))
        done += len(scans[-1]["pts"])
    return follow(path, found, scans)


def track_folder(digest: str) -> Path:
    """The folder that keeps the stretches of the video of this digest."""
    return cache.cache_folder() / "tracks" / f"{digest}-v{TRACK_VERSION}"


def align_cached(path: str | Path, size: int, progress: Progress = lambda stage, done: None) -> AlignedVideo:
    """All crops of a video, once per video content and crop size (pixels). Raises UserError as `track_cached` does."""
    path = Path(path)
    file = cache.cache_folder() / "aligned" / f"{video_digest(path)}-{size}-v{ALIGN_VERSION}.npz"

    def align() -> dict[str, np.ndarray]:
        made = align_video(path, track_cached(path, progress), size, progress)
        arrays = {name: getattr(made, name) for name in ("index", "crops", "landmarks", "quads")}
        return {**arrays, "fps": np.array(made.fps)}

    kept = cached_arrays(file, align)
    return AlignedVideo(name=path.name, fps=float(kept.pop("fps")), **kept)


def align_video(
    path: str | Path,
    track: Track,
    size: int,
    progress: Progress = lambda stage, done: None,
    *,
    rows: np.ndarray | None = None,
) -> AlignedVideo:
    """The crops of all frames of a track, or of rows [n], increasing; all in memory."""
    rows = np.arange(len(track.index)) if rows is None else rows
    quads = track.quads[rows]
    crops = np.empty((len(rows), size, size, 3), np.uint8)
    for at, picture in frames_at(path, track.pts[rows]):
        crops[at] = warp(picture, quads[at], size)
        progress("crops", at + 1)
    return AlignedVideo(
        name=track.name,
        fps=track.fps,
        index=track.index[rows],
        crops=crops,
        landmarks=to_crop(track.landmarks[rows], quads, size).astype(np.float32),
        quads=quads,
    )


def read_track(path: str | Path, track: Track, rows: slice) -> Iterator[tuple[int, np.ndarray]]:
    """Row numbers and pictures uint8 [H, W, 3] of the given rows of a track. Raises UserError as `frames_at` does."""
    for row, picture in frames_at(path, track.pts[rows]):
        yield rows.start + row, picture


def frames_at(path: str | Path, pts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Rows and pictures uint8 [H, W, 3] of the frames at these increasing times.

    Raises UserError if the file lacks one of them.
    """
    row = 0
    if not len(pts):
        return
    for at, picture in pictures(path, int(pts[0]), int(pts[-1]) + 1):
        if row < len(pts) and at == pts[row]:
            yield row, picture
            row += 1
    if row < len(pts):
        raise UserError(f"{path}: {len(pts) - row} frames that it had can no longer be decoded; was the file changed?")


@functools.cache
def face_finder() -> FaceFinder:
    """The face finder, loaded once per process, which takes a second or two."""
    return FaceFinder(cache.path("landmarks68").resolve())


def video_digest(path: Path) -> str:
    """The first 16 hex digits of the file's sha256, which name a video's cached results."""
    try:
        return cache.sha256(path)[:16]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; give the path of a video") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a video") from error


def check_whole(path: Path) -> None:
    """Raises UserError if a video ends before the duration that its container states, or cannot be opened."""
    found = survey(path)
    if found.missing:
        stated = float(found.pts[-1] * found.unit) + found.missing
        raise UserError(f"{path}: truncated, ends {found.missing:.1f} s before {stated:.1f} s; fetch it again")


def cached_arrays(file: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays in `file`, made and written atomically if the file is missing or broken.

    Raises UserError if the cache cannot be read or written.
    """
    try:
        with np.load(file, allow_pickle=False) as kept:
            return dict(kept)
    except (FileNotFoundError, ValueError, EOFError, zipfile.BadZipFile):
        arrays = make()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); set SVGAN_CACHE to another folder") from error
    try:
        with atomic.write_whole(file) as aside, aside.open("wb") as out:
            np.savez(out, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise UserError(f"{file}: cannot write ({error.strerror}); set SVGAN_CACHE to another folder") from error
    return arrays
