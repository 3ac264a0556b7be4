"""Small video files for tests, and frames of real footage."""

import shutil
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from svgan.assets import cache
from svgan.io.video_reader import read_frames


def talking_face(first: int, past: int) -> list[np.ndarray]:
    """Frames of the FG-NET Talking Face video; where it is not cached and npm cannot bring it, the test is skipped."""
    if shutil.which("npm") is None and {row.name: row.state for row in cache.table()}["talking-face"] != "ready":
        pytest.skip("the footage comes through npm, which is not installed")
    return list(islice(read_frames(cache.path("talking-face")), first, past))


def write_video(path: Path, frames: list[np.ndarray], fps: int = 25) -> Path:
    """Lossless, so that the detector finds what it finds in the source."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=fps)
        stream.height, stream.width, stream.pix_fmt = (*frames[0].shape[:2], "bgr0")
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    return path
