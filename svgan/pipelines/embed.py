"""From videos to a set of latents: decode, track the face, align, encode, write (`svgan embed`).

A video is worked on in stretches of 128 to 256 frames (`Survey.chunks`), each in two steps. `scan` finds faces. Once
all are scanned and the subject's track is known, `cut` and `encode` make the codes.

A stretch's result depends on nothing else, is kept when it is finished, and is never made again. So a killed command
continues where it was. Several machines can share the work with equal results (`python -m sweeps embed`). Memory is
bounded by a stretch's crops and the codes. The set itself appears whole at the end.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch

from svgan.errors import UserError
from svgan.faces.aligned_video import cached_arrays, read_track, track_cached, track_folder, video_digest
from svgan.faces.alignment import warp
from svgan.faces.original_frames import cut_again, encoder_crop
from svgan.faces.tracking import Track
from svgan.images.domain import Domain
from svgan.io.video_reader import frame_rate, survey
from svgan.latents.manifest import Manifest, VideoCodes
from svgan.latents.origins import Origins, transforms
from svgan.latents.shards import Recorded, write_latents
from svgan.metrics.identity import SAME_PERSON, FaceDescriber, typical_descriptor

PROBES = 3  # frames a clip, by which its person is known
WINDOW = 25  # frames that training and FVD take at a time


class Watcher:
    """Receives the progress of an embedding; this one does nothing. `svgan.reports.progress` draws bars from it."""

    def stage(self, video: str, stage: str, done: int, total: int) -> None:
        """`done` of about `total` frames ('landmarks', 'codes', 'frames')."""

    def finished(self, video: str, summary: str) -> None: ...


@dataclass(kw_only=True)
class Embedded:
    """The result. manifest: of the set written. failures: reasons by video; those videos are not in the set."""

    manifest: Manifest
    failures: dict[str, str] = field(default_factory=dict)


def embed(
    videos: Sequence[str | Path],
    domain: Domain,
    out_uri: str | Path,
    *,
    components: int = 64,
    frames: bool = False,
    watcher: Watcher | None = None,
) -> Embedded:
    """Write the W+ codes of `videos` to `out_uri`. A video that fails is left out. frames: keep the recorded crops
    beside them.

    All videos of a set share the first one's frame rate. Raises UserError if `out_uri` is taken or unwritable, two
    videos have one name, or every video failed. Nothing is left at `out_uri` then.
    """
    domain.check_embeds()
    watcher = watcher or Watcher()
    paths = check_names(videos)
    check_components(components)
    failures: dict[str, str] = {}
    rates = read_frame_rates(paths, failures)

    def finished() -> Iterator[VideoCodes]:
        for path in rates:
            try:
                codes = embed_video(path, domain, watcher)
            except UserError as error:
                failures[path.name] = str(error)
            else:
                yield codes
        if len(failures) == len(paths):
            raise UserError(f"no latents written: {'; '.join(failures.values())}")

    fps = next(iter(rates.values()), 25.0)
    recorded = make_cutter(paths, domain, watcher) if frames else None
    manifest = write_latents(
        out_uri, finished(), domain=domain.digest, fps=fps, components=components, recorded=recorded
    )
    return Embedded(manifest=manifest, failures=failures)


def make_cutter(paths: Sequence[Path], domain: Domain, watcher: Watcher) -> Recorded:
    """A function that cuts the recorded frames uint8 [R, R, 3] of a video among `paths`, given its name and origins."""
    by_name = {path.name: path for path in paths}

    def frames(name: str, origins: Origins) -> Iterator[np.ndarray]:
        for row, frame in cut_again(by_name[name], origins, domain):
            watcher.stage(name, "frames", row + 1, len(origins.pts))
            yield frame

    return frames


def check_components(components: int) -> None:
    if components < 1:
        raise UserError(f"--components {components}: must be 1 or more")


def check_names(videos: Sequence[str | Path]) -> list[Path]:
    """Return the videos' paths. Raises UserError if two have one name."""
    paths = [Path(video) for video in videos]
    names = [path.name for path in paths]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{doubled[0]}: two videos of this name; rename one, or give it once")
    return paths


def read_frame_rates(paths: Sequence[Path], failures: dict[str, str]) -> dict[Path, float]:
    """Return the frame rates of the videos that have the first readable one's. `failures` gets the others' reasons."""
    rates: dict[Path, float] = {}
    for path in paths:
        try:
            rate = frame_rate(path)
            fps = next(iter(rates.values()), rate)
            if abs(rate - fps) > 0.01 * fps:
                raise UserError(f"{path}: {rate:g} frames a second, the set has {fps:g}; embed it on its own")
            rates[path] = rate
        except UserError as error:
            failures[path.name] = str(error)
    return rates


def embed_video(path: str | Path, domain: Domain, watcher: Watcher | None = None) -> VideoCodes:
    """The codes of every frame of a video that shows its subject. Earlier results come from the cache."""
    path, watcher = Path(path), watcher or Watcher()
    found = survey(path)
    track = track_cached(path, lambda stage, done: watcher.stage(path.name, stage, done, len(found.pts)))
    digest, size = video_digest(path), encoder_crop(domain)
    parts = []
    for number, chunk in enumerate(found.chunks()):
        rows = track.rows(*chunk)

        def report(done: int, first: int = rows.start) -> None:
            watcher.stage(path.name, "codes", first + done, len(track.index))

        def make(rows: slice = rows) -> dict[str, np.ndarray]:
            crops, people = cut(path, track, rows, size)
            return {"codes": encode(domain, crops, report), "people": people}

        parts.append(cached_arrays(track_folder(digest) / codes_name(domain, number), make))
        report(rows.stop - rows.start)
    codes, summary = gather_codes(track, digest, parts)
    watcher.finished(path.name, summary)
    return codes


def codes_name(domain: Domain, number: int) -> str:
    """The name of the file that holds a stretch's codes."""
    return f"codes-{domain.digest[:16]}-{encoder_crop(domain)}-{number:05d}.npz"


def cut(path: Path, track: Track, rows: slice, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops uint8 [n, S, S, 3] of a stretch's rows, and descriptors [p, 128] of the probes among them."""
    crops = np.empty((rows.stop - rows.start, size, size, 3), np.uint8)
    wanted = set(probes(track).tolist())
    people = []
    for row, picture in read_track(path, track, rows):
        crops[row - rows.start] = warp(picture, track.quads[row], size)
        if row in wanted:
            people.append(_describer()(picture, track.landmarks[row]))
    return crops, np.array(people, np.float32).reshape(-1, 128)


def encode(domain: Domain, crops: np.ndarray, report: Callable[[int], None] = lambda done: None) -> np.ndarray:
    """Codes float16 [n, L, D] of a stretch's crops. On a CPU with one thread, because two change some codes' last bit.

    report: is called with the number of crops done.
    """
    with _one_thread():
        codes = domain.encode(crops, report=report)
    with np.errstate(over="ignore"):
        return codes.astype(np.float16)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _describer() -> FaceDescriber:
    return FaceDescriber()


def probes(track: Track) -> np.ndarray:
    """The rows by which a clip's person is recognised: the first, middle and last of each clip; none if there is one
    clip.
    """
    clips = track.clips
    if len(clips) < 2:
        return np.zeros(0, int)
    return np.concatenate([_probed(clip) for clip in clips])


def _probed(clip: slice) -> np.ndarray:
    return np.unique(np.linspace(clip.start, clip.stop - 1, PROBES).round().astype(int))


def gather_codes(track: Track, source: str, parts: Sequence[dict[str, np.ndarray]]) -> tuple[VideoCodes, str]:
    """A video's codes from those of its stretches, without clips of other people, and a line on what was left out.

    source: the video's digest.
    """
    keep = subject_rows(track, np.concatenate([part["people"] for part in parts]))
    lost = Counter(track.lost)
    lost["another person"] = int((~keep).sum())
    origins = Origins(
        source=source,
        pts=track.pts[keep],
        time=track.time[keep],
        landmarks=track.landmarks[keep],
        transform=transforms(track.quads[keep]),
    )
    codes = np.concatenate([part["codes"] for part in parts])[keep]
    index = track.index[keep]
    return VideoCodes(track.name, index, codes, origins), summary(track, index, lost)


def subject_rows(track: Track, people: np.ndarray) -> np.ndarray:
    """[N] bool: the clips of the person who is seen longest. people [P, 128]: descriptors of the probes, in order.

    A clip belongs to the first person whose typical descriptor is within dlib's 0.6. The longest clips are assigned
    first.
    """
    clips, keep = track.clips, np.ones(len(track.index), bool)
    if len(clips) < 2:
        return keep
    edges = np.cumsum([0, *(len(_probed(clip)) for clip in clips)])
    faces = [typical_descriptor(people[a:b]) for a, b in itertools.pairwise(edges)]
    lengths = [clip.stop - clip.start for clip in clips]
    known: list[np.ndarray] = []
    person = [0] * len(clips)
    for number in sorted(range(len(clips)), key=lambda k: -lengths[k]):
        near = [k for k, face in enumerate(known) if np.linalg.norm(face - faces[number]) < SAME_PERSON]
        if not near:
            known.append(faces[number])
        person[number] = near[0] if near else len(known) - 1
    frames = [
        sum(length for length, whose in zip(lengths, person, strict=True) if whose == k) for k in range(len(known))
    ]
    for clip, whose in zip(clips, person, strict=True):
        keep[clip] = whose == int(np.argmax(frames))
    return keep


def summary(track: Track, index: np.ndarray, lost: Counter[str]) -> str:
    """One line: frames and clips, what was left out and why, and whether there is enough to train on."""
    edges = np.flatnonzero(np.diff(index) != 1)
    lengths = np.diff([-1, *edges, len(index) - 1])
    text = f"{len(index)} of {track.seen} frames in {len(lengths)} clip{'s' * (len(lengths) > 1)}"
    if len(lengths) > 1:
        text += f", the longest {lengths.max()}"
    if reasons := ", ".join(f"{reason} {count}" for reason, count in lost.items() if count):
        text += f"; left out: {reasons}"
    if track.missing:
        text += f"; the file ends {track.missing:.1f} s too early"
    if lengths.max() < WINDOW:
        text += f"; no clip has the {WINDOW} frames that training takes at a time"
    return text
