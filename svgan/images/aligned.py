"""Alignment kept in the cache: landmarks cost 30 to 80 ms a frame, so a video is aligned once.

Files: SVGAN_CACHE/aligned/<sha256 of the video>-<size>-v<ALIGN_VERSION>.npz, about 49 kB a frame at 128 px. They hold
frames of real people: a local cache, never a thing to commit.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from svgan import assets
from svgan.errors import UserError
from svgan.images.align import AlignedVideo, FaceFinder, align_video

ALIGN_VERSION = 1  # raise it when crops or landmarks of the same video change
SLACK = 0.5  # seconds that the last frame may end before the stated duration

Progress = Callable[[str, int], None]


def align_cached(path: str | Path, size: int, progress: Progress = lambda stage, done: None) -> AlignedVideo:
    """`align_video`, once per video content and crop size (pixels).

    Raises UserError for a missing, truncated or undecodable video, one without a face, or with two.
    """
    path = Path(path)
    file = assets.cache_folder() / "aligned" / f"{video_digest(path)}-{size}-v{ALIGN_VERSION}.npz"

    def align() -> dict[str, np.ndarray]:
        check_whole(path)
        made = align_video(path, _finder(assets.path("landmarks68").resolve()), size, progress)
        arrays = {name: getattr(made, name) for name in ("index", "crops", "landmarks", "quads")}
        return {**arrays, "fps": np.array(made.fps)}

    kept = cached_arrays(file, align)
    return AlignedVideo(name=path.name, fps=float(kept.pop("fps")), **kept)


@cache
def _finder(predictor: Path) -> FaceFinder:
    """Loading the predictor takes a second or two: once per process."""
    return FaceFinder(predictor)


def video_digest(path: Path) -> str:
    """The first 16 hex digits of the file's sha256: what cached results of a video are filed under."""
    try:
        return assets.sha256(path)[:16]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; give the path of a video") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a video") from error


def check_whole(path: Path) -> None:
    """Raises UserError when a video ends before the duration its container states, has none, or cannot be opened."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path}: no video stream in this file; give a video")
            stated = (container.duration or 0) / av.time_base
            last = 0.0
            for packet in container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    except av.FFmpegError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror}); is it a video, and whole?") from error
    if last + SLACK < stated:
        raise UserError(f"{path}: truncated, ends after {last:.1f} of {stated:.1f} s; fetch it again")


def cached_arrays(file: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays kept in `file`, made and kept (in one rename) when it is not there or broken.

    Raises UserError when the cache cannot be written.
    """
    try:
        with np.load(file, allow_pickle=False) as kept:
            return dict(kept)
    except (FileNotFoundError, ValueError, EOFError, zipfile.BadZipFile):
        arrays = make()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.stem}.", delete=False) as scratch:
            try:
                np.savez(scratch, **arrays)  # type: ignore[arg-type]
                os.replace(scratch.name, file)
            except BaseException:
                Path(scratch.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"{file}: cannot write ({error.strerror}); set SVGAN_CACHE to another folder") from error
    return arrays
