"""Videos as they come: turned, odd, uneven, cut short, damaged; any stretch of one reads as the whole does."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import write_video

from svgan.errors import UserError
from svgan.io import video_reader
from svgan.io.video_reader import pictures, read_frames, survey

CLOCKWISE = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # a display matrix, as telephones write it


def ramps(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Dark pictures with a bright upper left corner; each frame is a little brighter than the one before."""
    frames = [np.full((height, width, 3), 20 + 2 * k, np.uint8) for k in range(count)]
    for frame in frames:
        frame[: height // 2, : width // 2] = 200
    return frames


def write_h264(
    path: Path, frames: list[np.ndarray], *, pts: list[int] | None = None, matrix=None, gop: int = 12
) -> Path:
    """A file with B-frames and key frames; pts in milliseconds, else 25 frames a second."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = (*frames[0].shape[:2], "yuv420p")
        stream.options = {"g": str(gop), "bf": "2", "crf": "10"}
        stream.codec_context.time_base = Fraction(1, 1000)
        if matrix:
            stream.set_display_matrix(matrix)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (pts[number] if pts else 40 * number), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def test_a_telephones_picture_is_turned_upright(tmp_path: Path):
    frames = list(read_frames(write_h264(tmp_path / "a.mp4", ramps(3), matrix=CLOCKWISE)))
    assert frames[0].shape == (64, 48, 3)
    corners = [[frames[0][y, x].mean() > 100 for x in (4, 43)] for y in (4, 59)]
    assert corners == [[False, True], [False, False]]


def test_an_odd_size_keeps_every_pixel(tmp_path: Path):
    frames = ramps(2, 37, 51)
    assert np.array_equal(list(read_frames(write_video(tmp_path / "a.mkv", frames))), frames)


def test_oblong_pixels_are_made_square(tmp_path: Path):
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        for frame in ramps(2):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    assert next(read_frames(tmp_path / "a.mkv")).shape == (48, 96, 3)


def test_any_stretch_reads_as_the_whole_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(video_reader, "CHUNK", 10)
    monkeypatch.setattr(video_reader, "LONGEST", 15)
    path = write_h264(tmp_path / "a.mp4", ramps(60), gop=25)
    found = survey(path)
    assert (len(found.pts), found.fps, found.missing) == (60, 25, 0)
    assert found.ticks(found.pts).tolist() == list(range(60))
    chunks = found.chunks()
    starts = np.searchsorted(found.pts, [first for first, _ in chunks])
    assert set(np.diff([*starts, 60])[:-1]) <= set(range(10, 16))
    assert found.keys[starts].any()
    assert not found.keys[starts].all()  # a stretch may begin between two key frames
    whole = list(pictures(path))
    parts = [item for chunk in chunks for item in pictures(path, *chunk)]
    assert [at for at, _ in parts] == [at for at, _ in whole]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(parts, whole, strict=True))


def test_a_variable_rate_becomes_an_even_clock(tmp_path: Path):
    # 29.97 a second with jitter and in milliseconds, a pause of a second, then two frames within a tick
    times = [round(1001 / 30 * k + (3 if k % 3 else -3)) for k in (*range(1, 30), *range(60, 90))]
    found = survey(write_h264(tmp_path / "a.mkv", ramps(60), pts=[*times, times[-1] + 5]))
    assert found.fps == Fraction(30000, 1001)
    ticks = found.ticks(found.pts)
    assert ticks.tolist() == [*range(29), *range(59, 89), 88]


def test_frames_that_come_in_pairs_have_a_rate(tmp_path: Path):
    """Half of the steps 40 ms, half 160: their median is no step of the video."""
    times = [0, 40, 200, 240, 400, 440, 600]
    found = survey(write_h264(tmp_path / "a.mkv", ramps(7), pts=times))
    assert found.fps == 25
    assert found.ticks(found.pts).tolist() == [0, 1, 5, 6, 10, 11, 15]


def test_a_broken_tail_and_a_damaged_middle_cost_their_frames(tmp_path: Path):
    path = write_h264(tmp_path / "a.mkv", [*np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3), np.uint8)])
    whole, data = dict(pictures(path)), path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found = survey(path)
    assert found.missing == pytest.approx((60 - len(found.pts)) / 25, abs=0.1)
    kept = dict(pictures(path))
    assert 20 < len(kept) < 40
    assert all(np.array_equal(picture, whole[at]) for at, picture in list(kept.items())[:-3])

    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes(600) + data[middle + 600 :])
    kept = dict(pictures(path))
    assert 60 > len(kept) > 40
    assert max(kept) == max(whole)  # goes on behind the next key frame
    assert sum(not np.array_equal(kept[at], whole[at]) for at in kept) <= 2


def test_what_is_no_video_is_told_in_one_line(tmp_path: Path):
    junk, empty, sound = tmp_path / "junk.mp4", tmp_path / "empty.mp4", tmp_path / "sound.wav"
    junk.write_bytes(b"not a video at all" * 100)
    empty.write_bytes(b"")
    with wave.open(str(sound), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(16000))
    for path, words in (
        (tmp_path / "none.mp4", "no such file"),
        (tmp_path, "a folder"),
        (junk, "cannot be decoded"),
        (empty, "cannot be decoded"),
        (sound, "no video stream"),
    ):
        for read in (survey, lambda path: list(read_frames(path))):
            with pytest.raises(UserError, match=words) as told:
                read(path)
            assert "\n" not in str(told.value)
