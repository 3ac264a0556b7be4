"""Write frames as MP4, GIF, PNG pictures and contact sheets. A file appears whole or not at all.

Small frames are enlarged by a whole factor, because players blur 64 px and encoders smear it.

Axes: T frame, H x W picture; uint8 RGB throughout.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
from PIL import GifImagePlugin, Image

from svgan.errors import UserError

ENCODERS = ("libx264", "libopenh264", "mpeg4")  # H.264 where this build of FFmpeg has an encoder for it
SMALLEST = 256
SUFFIXES = ".mp4, .gif, or no suffix for a folder of PNG pictures"


def write_clip(frames: Iterable[np.ndarray], path: str | Path, fps: float, *, smallest: int = SMALLEST) -> None:
    """Write in the format of `path`'s suffix: .mp4, .gif, or a folder of PNG pictures. Raises UserError for others."""
    check_suffix(path)
    path = Path(path)
    if path.suffix == ".mp4":
        write_mp4(frames, path, fps, smallest=smallest)
    elif path.suffix == ".gif":
        write_gif(frames, path, fps, smallest=smallest)
    else:
        write_frames(frames, path)


def check_suffix(path: str | Path) -> None:
    if Path(path).suffix not in (".mp4", ".gif", ""):
        raise UserError(f"{path}: cannot write {Path(path).suffix} files; use {SUFFIXES}")


def write_mp4(frames: Iterable[np.ndarray], path: str | Path, fps: float, *, smallest: int = SMALLEST) -> None:
    """Write frames, each [H, W, 3], as MP4 at `fps`. `frames` may be a generator; one frame is in memory at a time.

    Sides below `smallest` are enlarged by a whole factor. Odd sides get one more pixel, because 4:2:0 needs even ones.
    """
    import av

    first, rest = _first(frames, path)
    with _aside(path) as scratch, av.open(str(scratch), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        stream = cast(av.VideoStream, out.add_stream(_encoder(), rate=Fraction(fps).limit_denominator(1001)))
        height, width = _even(enlarge(first, smallest)).shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "16"} if stream.codec.name == "libx264" else {}
        if stream.codec.name != "libx264":
            stream.bit_rate = int(width * height * fps * 0.3)
        for frame in rest:
            picture = np.ascontiguousarray(_even(enlarge(frame, smallest)))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())


def write_gif(frames: Iterable[np.ndarray], path: str | Path, fps: float, *, smallest: int = SMALLEST) -> None:
    """Write frames, each [H, W, 3], as an endless GIF.

    A GIF's clock ticks in hundredths of a second. At 30 frames a second, two of three frames last 3 ticks and one lasts
    4. Browsers show frames of one tick for ten, so 50 a second is the limit.

    Each frame has its own colours and is written by itself, because Pillow's writer of animations keeps all frames in
    memory. Colours are chosen before the frame is enlarged: for 50 frames of 16 px that takes a tenth of 11 s of a
    core.
    """
    _, rest = _first(frames, path)
    with _aside(path) as scratch, scratch.open("wb") as out:
        for number, frame in enumerate(rest):
            colours, larger = Image.fromarray(frame).quantize(256), enlarge(frame, smallest)
            picture = colours if larger is frame else Image.fromarray(larger).quantize(palette=colours)
            if number == 0:
                out.writelines(GifImagePlugin.getheader(picture, info={"loop": 0})[0])
            duration = 10 * max(2, round(100 * (number + 1) / fps) - round(100 * number / fps))
            out.writelines(GifImagePlugin.getdata(picture, duration=duration, include_color_table=number > 0))
        out.write(b";")


def write_frames(frames: Iterable[np.ndarray], folder: str | Path) -> None:
    """Write frame-00000.png, ... into a new folder, at their own size. Raises UserError if the folder holds
    anything.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; give a new folder")
    _, rest = _first(frames, folder)
    with _aside(folder, is_folder=True) as scratch:
        for number, frame in enumerate(rest):
            Image.fromarray(frame).save(scratch / f"frame-{number:05d}.png")


def write_png(picture: np.ndarray, path: str | Path) -> None:
    """Write one picture [H, W, 3]."""
    with _aside(path) as scratch:
        Image.fromarray(picture).save(scratch, "PNG")


def contact_sheet(
    frames: np.ndarray | Sequence[np.ndarray], columns: int = 10, *, rows: int = 5, line: int = 2
) -> np.ndarray:
    """One picture of evenly spaced frames with thin white lines between them.

    A clip [T, H, W, 3] fills rows in reading order, at most `rows` of them. Several clips [n, T, H, W, 3] have one row
    each.
    """
    if frames[0].ndim == 3:
        kept = evenly(np.asarray(frames), rows * columns)
        strips = [kept[k : k + columns] for k in range(0, len(kept), columns)]
    else:
        strips = [evenly(clip, columns) for clip in frames]
    height, width = strips[0].shape[1:3]
    most = max(map(len, strips))
    sheet = np.full((len(strips) * (height + line) - line, most * (width + line) - line, 3), 255, np.uint8)
    for row, strip in enumerate(strips):
        for column, frame in enumerate(strip):
            top, left = row * (height + line), column * (width + line)
            sheet[top : top + height, left : left + width] = frame
    return sheet


def evenly(frames: np.ndarray, count: int) -> np.ndarray:
    """At most `count` evenly spaced frames, the first and last included."""
    if len(frames) <= count:
        return frames
    return frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]


def enlarge(frame: np.ndarray, smallest: int = SMALLEST, method: str = "bicubic") -> np.ndarray:
    """[H, W, 3] times the least whole factor that makes the shorter side at least `smallest`; 'bicubic' or
    'nearest'.
    """
    factor = -(-smallest // min(frame.shape[:2]))
    if factor <= 1:
        return frame
    size = (frame.shape[1] * factor, frame.shape[0] * factor)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling[method.upper()]))


def _even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _encoder() -> str:
    import av

    for name in ENCODERS:
        try:
            av.codec.Codec(name, "w")
            return name
        except ValueError:  # PyAV's UnknownCodecError
            continue
    raise UserError(f"MP4: this PyAV has none of the encoders {', '.join(ENCODERS)}; write a .gif instead")


def _first(frames: Iterable[np.ndarray], path: str | Path) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """The first frame, and an iterator over all of them."""
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise UserError(f"{path}: no frames to write; ask for at least one")
    if first.ndim != 3 or first.shape[2] != 3 or first.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 [H, W, 3], got {first.dtype} {first.shape}")
    return first, chain([first], rest)


@contextmanager
def _aside(path: str | Path, *, is_folder: bool = False) -> Iterator[Path]:
    """A scratch file or folder beside `path`. It replaces `path` if the block succeeds, and is removed otherwise."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    except OSError as error:
        raise UserError(f"{path}: cannot write ({error.strerror}); give another place") from error
    try:
        scratch = room / path.name
        if is_folder:
            scratch.mkdir()
        yield scratch
        os.replace(scratch, path)
    except OSError as error:
        raise UserError(f"{path}: cannot write ({error}); nothing of it is kept") from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
