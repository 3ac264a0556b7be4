import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from svgan.errors import UserError
from svgan.io import video_writer
from svgan.io.video_reader import frame_rate, read_frames


def moving_square(length: int, height: int = 64, width: int = 64) -> np.ndarray:
    frames = np.full((length, height, width, 3), 40, np.uint8)
    for t in range(length):
        frames[t, 10:30, 2 * t : 2 * t + 20] = (200, 80, 60)
    return frames


@pytest.mark.parametrize(("fps", "size"), [(25.0, (64, 64)), (30000 / 1001, (33, 65))])
def test_mp4_keeps_rate_count_and_picture(tmp_path: Path, fps: float, size: tuple[int, int]):
    frames = moving_square(12, *size)
    video_writer.write_mp4(iter(frames), tmp_path / "a.mp4", fps)
    assert frame_rate(tmp_path / "a.mp4") == pytest.approx(fps, rel=1e-6)
    back = np.stack(list(read_frames(tmp_path / "a.mp4")))
    assert len(back) == 12
    assert min(back.shape[1:3]) >= 256
    assert back.shape[1] % 2 == back.shape[2] % 2 == 0
    wanted = np.stack([video_writer._even(video_writer.enlarge(f)) for f in frames]).astype(float)
    assert np.abs(back - wanted).mean() < 3
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].codec.name in ("h264", "mpeg4")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_every_encoder_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(video_writer, "ENCODERS", ("no-such-encoder", "mpeg4"))
    video_writer.write_mp4(moving_square(5), tmp_path / "a.mp4", 25)
    assert len(list(read_frames(tmp_path / "a.mp4"))) == 5
    monkeypatch.setattr(video_writer, "ENCODERS", ("no-such-encoder",))
    with pytest.raises(UserError, match=r"\.gif"):
        video_writer.write_mp4(moving_square(5), tmp_path / "b.mp4", 25)


def test_gif_and_png_folder(tmp_path: Path):
    frames = moving_square(6)
    video_writer.write_clip(frames, tmp_path / "a.gif", 25)
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 6
        assert picture.info["duration"] == 40
        assert picture.size == (256, 256)
    video_writer.write_clip(frames, tmp_path / "frames", 25)
    names = sorted(p.name for p in (tmp_path / "frames").iterdir())
    assert names == [f"frame-{k:05d}.png" for k in range(6)]
    assert (np.asarray(Image.open(tmp_path / "frames" / names[3])) == frames[3]).all()


@pytest.mark.parametrize("fps", [24, 25, 30000 / 1001, 30, 50])
def test_a_gif_takes_as_long_as_its_frames(tmp_path: Path, fps: float):
    video_writer.write_clip(moving_square(48), tmp_path / "a.gif", fps)
    with Image.open(tmp_path / "a.gif") as picture:
        shown = []
        for frame in range(picture.n_frames):
            picture.seek(frame)
            shown.append(picture.info["duration"] / 1000)
    assert sum(shown) == pytest.approx(48 / fps, abs=0.006)
    assert max(shown) - min(shown) < 0.011


def test_contact_sheet_rows_and_lines():
    frames = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 6, 3), np.uint8)
    sheet = video_writer.contact_sheet(frames, columns=4, rows=2, line=1)
    assert sheet.shape == (17, 27, 3)
    assert sheet[0, 0, 0] == 0
    assert sheet[-1, -1, 0] == 99
    assert (sheet[8] == 255).all()
    assert (sheet[:, 6] == 255).all()
    several = video_writer.contact_sheet(np.stack([frames[:10], frames[50:60]]), columns=5)
    assert several.shape == (18, 5 * 8 - 2, 3)
    assert several[10, 0, 0] == 50
    assert video_writer.contact_sheet(frames[:3], columns=10).shape == (8, 22, 3)


def test_enlarging_by_whole_factors():
    frame = moving_square(1)[0]
    assert video_writer.enlarge(frame, 100).shape == (128, 128, 3)
    assert (video_writer.enlarge(frame, 128, "nearest")[::2, ::2] == frame).all()
    assert video_writer.enlarge(frame, 32) is frame


def test_bad_input_leaves_nothing(tmp_path: Path):
    with pytest.raises(UserError, match=r"cannot write \.avi"):
        video_writer.write_clip(moving_square(2), tmp_path / "a.avi", 25)
    with pytest.raises(UserError, match="no frames"):
        video_writer.write_clip([], tmp_path / "a.mp4", 25)

    def interrupted():
        yield from moving_square(3)
        raise KeyboardInterrupt

    for name in ("a.mp4", "a.gif", "folder"):
        with pytest.raises(KeyboardInterrupt):
            video_writer.write_clip(interrupted(), tmp_path / name, 25)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        video_writer.write_mp4(moving_square(2), tmp_path / "file" / "a.mp4", 25)
    with pytest.raises(UserError, match="exists already"):
        video_writer.write_frames(moving_square(2), tmp_path / "file")


WRITE = """
import resource, sys
import numpy as np
from svgan.io import video_writer

path, count = sys.argv[1], int(sys.argv[2])
shades = np.arange(17, dtype=np.uint8)[:, None, None, None] * np.ones((1, 128, 128, 3), np.uint8)
video_writer.write_clip((shades[k % 17] for k in range(count)), path, 25, smallest=128)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "folder"])
def test_five_thousand_frames_take_the_memory_of_five_hundred(name: str, tmp_path: Path):
    def peak(count: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", WRITE, str(tmp_path / str(count) / name), str(count)],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    assert peak(5000) - peak(500) < 15_000  # kB; 4500 frames are 216 MiB, and 72 as a GIF's
