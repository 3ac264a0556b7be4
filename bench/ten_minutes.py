"""What ten minutes of 1080p footage cost to embed: seconds, CPU seconds, and the process's peak memory.

    python bench/ten_minutes.py                     the default domain
    python bench/ten_minutes.py --once --lap 100    every picture looked at once, then the ten minutes put together
    python bench/ten_minutes.py --domain DOMAIN --device cuda

The footage is the Talking Face video (`svgan assets talking-face`) enlarged to 1920 x 1080 and repeated, as H.264; its
jumps back to the first frame are cuts. With --once the first lap is embedded by itself, and its kept stretches are then
those of the others, whose pictures are the same, but for those that a clip's person is known by: memory and the way
through the command are those of ten minutes, the time is not. Killed and started again with the same --folder (and
SVGAN_CACHE), it goes on where it was, and counts its own share alone. Cost: an hour on a core, with --once --lap 100 a
quarter. What came out: bench/LOG.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from full_size import measured
from PIL import Image

WIDTH, HEIGHT, RATE = 1920, 1080, 25


def enlarged(video: Path) -> Iterator[np.ndarray]:
    """Its frames [1080, 1920, 3], in the middle of black ones."""
    from svgan.io.video_reader import read_frames

    for frame in read_frames(video):
        whole = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        wide = round(frame.shape[1] * HEIGHT / frame.shape[0])
        left = (WIDTH - wide) // 2
        whole[:, left : left + wide] = np.asarray(Image.fromarray(frame).resize((wide, HEIGHT)))
        yield whole


def make_lap(lap: Path, seconds: float) -> None:
    import av

    from svgan.assets import cache
    from svgan.io.atomic import write_whole

    with write_whole(lap) as aside, av.open(str(aside), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in islice(enlarged(cache.path("talking-face")), round(RATE * seconds)):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())


def repeat(lap: Path, video: Path, frames: int) -> None:
    """Make a video of a lap's packets, as often and as far as it takes."""
    import av

    from svgan.io.atomic import write_whole

    with write_whole(video) as aside, av.open(str(aside), "w", format="mp4") as out:
        copy, written = None, 0
        while written < frames:
            with av.open(str(lap)) as source:
                stream = source.streams.video[0]
                copy = copy or out.add_stream_from_template(stream)
                start = round(written / (RATE * (stream.time_base or 1)))
                for packet in source.demux(stream):
                    if packet.dts is None or packet.pts is None or written == frames:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + start, packet.dts + start, copy
                    out.mux(packet)
                    written += 1


def take_over(lap: Path, video: Path, domain: str) -> None:
    """Keep for the video's stretches what is kept of the lap's, which they show again."""
    from svgan.faces.aligned_video import track_cached, track_folder, video_digest
    from svgan.images.domain import Domain
    from svgan.io.video_reader import survey
    from svgan.pipelines.embed import codes_name, probes

    one, found = survey(lap).chunks(), survey(video)
    many = found.chunks()
    source, target = (track_folder(video_digest(path)) for path in (lap, video))
    target.mkdir(parents=True, exist_ok=True)
    for number, (first, past) in enumerate(many):
        with np.load(source / f"faces-{number % len(one):05d}.npz") as kept:
            faces = dict(kept)
        faces["pts"] += first - one[number % len(one)][0]
        if not np.array_equal(faces["pts"], found.pts[(found.pts >= first) & (found.pts < past)]):
            continue  # the last lap may end within a stretch
        np.savez(target / f"faces-{number:05d}.npz", **faces)
    track, loaded = track_cached(video), Domain.load(domain)
    known = probes(track)
    for number, chunk in enumerate(many):
        rows = track.rows(*chunk)
        if not ((known >= rows.start) & (known < rows.stop)).any():
            shutil.copy(source / codes_name(loaded, number % len(one)), target / codes_name(loaded, number))
    left = sum(not (target / codes_name(loaded, number)).exists() for number in range(len(many)))
    print(f"{len(track.clips)} clips; {left} of {len(many)} stretches are to be encoded", flush=True)


def embed(video: Path, out: Path, domain: str, device: str) -> None:
    from svgan import cli

    if cli.run(["embed", str(video), "--out", str(out), "--domain", domain, "--device", device]):
        raise SystemExit(1)


def report(video: Path, out: Path, domain: str, device: str) -> None:
    from svgan.io.video_reader import survey

    frames = len(survey(video).pts)
    print(f"{video.name}: {frames} frames, {video.stat().st_size / 1e6:.0f} MB; load {os.getloadavg()[0]:.1f}")
    wall, cpu, peak = measured(embed, video, out, domain, device)
    print(f"{wall:.0f} s, {cpu:.0f} CPU s ({1000 * cpu / frames:.0f} ms a frame), peak {peak:.2f} GB")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the end", flush=True)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=10.0, metavar="X")
    p.add_argument("--lap", type=float, default=200.0, metavar="S", help="seconds until the footage repeats [200]")
    p.add_argument("--once", action="store_true", help="look at each picture once")
    p.add_argument("--domain", default="default")
    p.add_argument("--device", default="cpu")
    p.add_argument("--folder", type=Path, help="for video and codes, kept [a temporary one]")
    asked = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="svgan-ten-minutes-") as name:
        folder = asked.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        lap, video = folder / f"lap-{asked.lap:g}.mp4", folder / f"{asked.minutes:g}-of-{asked.lap:g}.mp4"
        if not lap.exists():
            measured(make_lap, lap, asked.lap)
        if not video.exists():
            measured(repeat, lap, video, round(60 * RATE * asked.minutes))
        if asked.once:
            if not (folder / "lap-codes").exists():
                report(lap, folder / "lap-codes", asked.domain, asked.device)
            measured(take_over, lap, video, asked.domain)
        report(video, folder / "codes", asked.domain, asked.device)


if __name__ == "__main__":
    main()
