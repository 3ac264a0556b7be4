"""Read video files of any kind: upright pictures in order of time, whatever the container says or lacks.

A file is read twice. `survey` reads its packets without decoding, which takes a second for ten minutes. It finds the
frame rate, the tick of every frame, and the places where decoding can start. `pictures` then decodes any stretch.

A tick is a frame's number on an even clock: its time times the frame rate, rounded. At a constant rate it is the
frame's number in the file. Missing frames leave missing ticks. If two frames share a tick, the first one counts.

Shapes: N frame, H x W picture as displayed (rotation applied, square pixels).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from svgan.errors import UserError

SLACK = 0.5  # seconds that the last frame may end before the stated duration
CLOSE = 0.005  # share by which a stated frame rate may differ from the one that the frames' times show
USUAL = tuple(Fraction(*pair) for pair in ((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60, 1)))
CHUNK, LONGEST = 128, 256  # frames of a stretch: it ends at a key frame from here on, and anywhere from there


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a video's packets say.

    pts [N] int64: the frames' times, increasing, in units of `unit` seconds; keys [N] bool: whether decoding can start
    there. missing: seconds between the last frame's end and the stated end, 0 if the video is whole.
    """

    pts: np.ndarray
    keys: np.ndarray
    unit: Fraction
    fps: Fraction
    missing: float

    def ticks(self, pts: np.ndarray) -> np.ndarray:
        """The ticks, int64, of times."""
        return np.round((pts - self.pts[0]) * float(self.unit * self.fps)).astype(np.int64)

    def chunks(self) -> list[tuple[int, int]]:
        """The file in stretches [first, past) of pts, for work in pieces. They begin at key frames that are not too far
        apart.
        """
        starts = [0]
        for row in range(1, len(self.pts)):
            length = row - starts[-1]
            if length >= LONGEST or (length >= CHUNK and self.keys[row]):
                starts.append(row)
        edges = [*(int(self.pts[row]) for row in starts), int(self.pts[-1]) + 1]
        return list(itertools.pairwise(edges))


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """A container and its video stream. Raises UserError if the file is missing, is no video, or has no picture.

    FFmpeg's errors in the block become UserErrors too.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path}: no video stream in this file; give a video")
            yield container, container.streams.video[0]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; give the path of a video") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: a folder; give the path of a video") from error
    except av.FFmpegError as error:
        raise UserError(f"{path}: cannot be decoded ({error.strerror}); is it a video, and whole?") from error


def survey(path: str | Path) -> Survey:
    """Frame times and rate, without decoding. Raises UserError for a file without a frame."""
    import av

    found: list[tuple[int, bool]] = []
    last = 0.0
    with opened(path) as (container, stream):
        unit = Fraction(stream.time_base)
        stated = float(container.duration or 0) / av.time_base
        rates = [rate for rate in (stream.average_rate, stream.guessed_rate) if rate]
        begin = float((stream.start_time or 0) * unit)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):  # a damaged end: what came before counts
                break
            if packet.pts is None or packet.is_corrupt or packet.is_discard:
                continue
            found.append((packet.pts, packet.is_keyframe))
            last = max(last, float((packet.pts + (packet.duration or 0)) * unit))
    if not found:
        raise UserError(
            f"{path}: no frame with a time in it; is the file whole? (ffmpeg -i {path} whole.mp4 may mend it)"
        )
    pts, first = np.unique(np.array([at for at, _ in found], np.int64), return_index=True)
    keys = np.array([key for _, key in found])[first]
    end = stated + (begin if begin > 0 else 0.0)
    missing = end - last if last + SLACK < end else 0.0
    return Survey(pts=pts, keys=keys, unit=unit, fps=_rate(pts, unit, rates), missing=missing)


def _rate(pts: np.ndarray, unit: Fraction, stated: list[Fraction]) -> Fraction:
    """The frame rate that most frames keep: the container's own if the frames' times agree with it.

    Times are often rounded to milliseconds, and the container's average counts gaps.
    """
    if len(pts) < 2:
        return Fraction(stated[0]) if stated else Fraction(25)
    steps = np.diff(pts)
    usual = float(np.median(steps))
    near = steps[(steps > 0.5 * usual) & (steps < 1.5 * usual)]
    if not len(near):  # the median lies between two kinds of steps; at the rate of the short ones no frame is lost
        near = steps[steps < usual]
    shown = 1 / (float(near.mean()) * float(unit))
    for rate in (*stated, *sorted(USUAL, key=lambda rate: abs(float(rate) - shown))):
        if abs(float(rate) - shown) <= CLOSE * shown:
            return Fraction(rate)
    return Fraction(shown).limit_denominator(1001)


def pictures(path: str | Path, first: int | None = None, past: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """The times and pictures uint8 [H, W, 3] of a stretch [first, past) of pts, by default all.

    Frames that cannot be decoded, and those up to the next key frame, are left out. Raises UserError as `opened` does.
    """
    try:
        yield from _decoded(path, first, past)
    except _TooLate:
        for at, picture in _decoded(path, None, past):
            if first is None or at >= first:
                yield at, picture


class _TooLate(Exception):
    """A seek ended behind the frame asked for."""


def _decoded(path: str | Path, first: int | None, past: int | None) -> Iterator[tuple[int, np.ndarray]]:
    import av

    with opened(path) as (container, stream):
        if first is not None:
            try:
                container.seek(first, stream=stream, backward=True)
            except av.FFmpegError:
                raise _TooLate from None
        broken, begun = False, False
        for packet in _packets(container, stream):
            try:
                frames = packet.decode()
            except av.error.EOFError:
                continue
            except av.error.InvalidDataError:
                broken = True
                continue
            for frame in frames:
                if frame.pts is None:
                    continue
                if not begun and first is not None and frame.pts > first:
                    raise _TooLate
                begun = True
                broken = (broken and not frame.key_frame) or frame.is_corrupt
                if past is not None and frame.pts >= past:
                    return
                if not broken and (first is None or frame.pts >= first):
                    yield frame.pts, upright(frame, stream.sample_aspect_ratio)


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets up to a damaged end, then an empty one that flushes the decoder."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except av.FFmpegError:
            last = av.Packet()
            last.stream = stream
            yield last
            return


def upright(frame: Any, aspect: Fraction | None = None) -> np.ndarray:
    """A decoded frame as it is displayed, uint8 [H, W, 3]. aspect: width of a stored pixel over its height."""
    width = round(frame.width * aspect) if aspect and aspect > 0 else frame.width
    picture = frame.reformat(width=width, height=frame.height, format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def read_frames(path: str | Path) -> Iterator[np.ndarray]:
    """Decoded frames of a video, each uint8 [H, W, 3]. Raises UserError as `opened` does."""
    for _, picture in pictures(path):
        yield picture


def frame_rate(path: str | Path) -> float:
    """Frames a second, as `survey` finds them."""
    return float(survey(path).fps)
