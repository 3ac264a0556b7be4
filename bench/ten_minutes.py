"""What ten minutes of 1080p footage cost to embed: seconds, CPU seconds, and the process's peak memory.

    python bench/ten_minutes.py                     the default domain
    python bench/ten_minutes.py --minutes 1         quicker
    python bench/ten_minutes.py --domain DOMAIN --device cuda

The footage is the Talking Face video (`svgan assets talking-face`) enlarged to 1920 x 1080 and looped, as H.264; its
jumps back to the first frame are cuts. Killed and started again with the same --folder, it goes on where it was, and
counts its own share alone. Cost: an hour on a core. What came out: bench/LOG.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from full_size import measured
from PIL import Image

WIDTH, HEIGHT, RATE = 1920, 1080, 25


def looped(video: Path) -> Iterator[np.ndarray]:
    """Its frames [1080, 1920, 3] for ever, in the middle of black ones."""
    from svgan.images.footage import read_frames

    while True:
        for frame in read_frames(video):
            whole = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            wide = round(frame.shape[1] * HEIGHT / frame.shape[0])
            left = (WIDTH - wide) // 2
            whole[:, left : left + wide] = np.asarray(Image.fromarray(frame).resize((wide, HEIGHT)))
            yield whole


def make(video: Path, minutes: float) -> None:
    from svgan import assets
    from svgan.video import write_mp4

    write_mp4(islice(looped(assets.path("talking-face")), round(60 * RATE * minutes)), video, RATE)


def embed(video: Path, out: Path, domain: str, device: str) -> None:
    from svgan import cli

    if cli.run(["embed", str(video), "--out", str(out), "--domain", domain, "--device", device]):
        raise SystemExit(1)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=10.0, metavar="X")
    p.add_argument("--domain", default="default")
    p.add_argument("--device", default="cpu")
    p.add_argument("--folder", type=Path, help="for video and codes, kept [a temporary one]")
    asked = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="svgan-ten-minutes-") as name:
        folder = asked.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        video = folder / f"{asked.minutes:g}.mp4"
        if not video.exists():
            measured(make, video, asked.minutes)
        print(f"{video.stat().st_size / 1e6:.0f} MB of video; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        wall, cpu, peak = measured(embed, video, folder / "codes", asked.domain, asked.device)
        frames = 60 * RATE * asked.minutes
        print(f"{wall:.0f} s, {cpu:.0f} CPU s ({1000 * cpu / frames:.0f} ms a frame), peak {peak:.2f} GB")
        print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
