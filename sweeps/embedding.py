"""`svgan embed` by many workers: the same stretches of the same videos, scanned and encoded wherever there is room.

Plain Ray tasks, and actors for GPUs (docs/choices.md says why not Ray Data). Every finished stretch is a file in
OUT.embedding, beside the set that is to be, so that a driver killed at any moment goes on where it was, with whatever
workers there are then; nothing that was finished is done again. The driver keeps landmarks and codes, never a picture.

Videos and domain are read by the workers from the paths that were given: every node must have them there.
"""

from __future__ import annotations

import io
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from svgan import embed as alone
from svgan.embed import Embedded, Watcher
from svgan.errors import UserError
from svgan.images.aligned import TRACK_VERSION, face_finder, video_digest
from svgan.images.domain import Domain
from svgan.images.footage import Survey, survey
from svgan.images.track import Track, follow, scan
from svgan.latents import storage
from svgan.latents.shards import MANIFEST, VideoCodes, write_latents
from svgan.latents.storage_errors import storage_errors
from sweeps import shelf

Arrays = dict[str, np.ndarray]


@dataclass(kw_only=True)
class Video:
    """A video under way: its stretches, the track when all are scanned, and how many of which step are finished."""

    path: Path
    digest: str
    found: Survey
    place: str
    track: Track | None = None
    done: dict[str, set[int]] = field(default_factory=lambda: {"faces": set(), "codes": set()})

    def file(self, step: str, number: int, domain: Domain) -> str:
        name = f"faces-{number:05d}.npz" if step == "faces" else alone.codes_name(domain, number)
        return storage.join(self.place, name)


def embed(
    videos: Sequence[str | Path],
    domain: Domain,
    out: str,
    *,
    components: int = 64,
    watcher: Watcher | None = None,
) -> Embedded:
    """What `svgan.embed.embed` does, with the tasks of a running Ray; the set is equal in every bit.

    Raises UserError as that does; what was finished stays in OUT.embedding then.
    """
    watcher = watcher or Watcher()
    domain.check_embeds()
    paths = alone.named_once(videos)
    alone.check_components(components)
    if storage.read(storage.join(out, MANIFEST)) is not None:
        raise UserError(f"{out}: already holds a {MANIFEST}; give another place, or remove it first")
    failures: dict[str, str] = {}
    rates = alone.rates_of([path.absolute() for path in paths], failures)
    work = f"{out.rstrip('/')}.embedding"
    with storage_errors(work, "write"):
        started = [_opened(path, work, domain) for path in rates]
        _work(started, domain, failures, watcher)

        def finished() -> Iterator[VideoCodes]:
            for video in started:
                if video.path.name not in failures and video.track is not None:
                    parts = [_load(video.file("codes", k, domain)) for k in sorted(video.done["codes"])]
                    codes, summary = alone.gathered(video.track, video.digest, parts)
                    watcher.finished(video.path.name, summary)
                    yield codes
            if len(failures) == len(paths):
                raise UserError(f"no latents written: {'; '.join(failures.values())}")

        fps = next(iter(rates.values()), 25.0)
        manifest = write_latents(out, finished(), domain=domain.digest, fps=fps, components=components)
        shelf.remove(work)
    return Embedded(manifest=manifest, failures=failures)


def _opened(path: Path, work: str, domain: Domain) -> Video:
    """A video with what is finished of it."""
    digest = video_digest(path)
    video = Video(path=path, digest=digest, found=survey(path), place=f"{work}/{digest}-v{TRACK_VERSION}")
    there = set(shelf.names(video.place))
    for step, kept in video.done.items():
        for number in range(len(video.found.chunks())):
            if video.file(step, number, domain).rpartition("/")[2] in there:
                kept.add(number)
    return video


def _work(videos: list[Video], domain: Domain, failures: dict[str, str], watcher: Watcher) -> None:
    """Scan and encode all stretches that are not finished, as many at a time as there is room for."""
    import ray

    crew = Crew(domain)
    waiting: deque[tuple[Video, str, int]] = deque()
    for video in videos:
        waiting.extend((video, "faces", k) for k in range(len(video.found.chunks())) if k not in video.done["faces"])
    for video in videos:
        _advance(video, domain, waiting, failures, watcher)
    running: dict[Any, tuple[Video, str, int]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < crew.room:
                video, step, number = waiting.popleft()
                if video.path.name not in failures:
                    running[crew.start(video, step, number)] = (video, step, number)
            if not running:
                continue
            (ready, *_), _ = ray.wait(list(running))
            video, step, number = running.pop(ready)
            try:
                ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                cause: Exception = error
                while isinstance(cause, ray.exceptions.RayTaskError):  # of a task that another's failure failed
                    cause = cause.cause
                if not isinstance(cause, UserError):
                    raise
                failures[video.path.name] = str(cause)
                continue
            except ray.exceptions.RayError as error:
                why = " ".join(str(error).split())[:200]
                raise UserError(f"{video.path}: a worker was lost again and again ({why}); see Ray's logs") from error
            video.done[step].add(number)
            _advance(video, domain, waiting, failures, watcher)
    finally:
        for ready in running:
            ray.cancel(ready, force=False)
        crew.dismiss()


def _advance(
    video: Video,
    domain: Domain,
    waiting: deque[tuple[Video, str, int]],
    failures: dict[str, str],
    watcher: Watcher,
) -> None:
    """Tell how far a video is; follow its subject, and put its stretches in line for their codes, when all are
    scanned."""
    chunks = video.found.chunks()
    ends = np.searchsorted(video.found.pts, [past for _, past in chunks])
    lengths = np.diff([0, *ends])
    for step, name in (("faces", "landmarks"), ("codes", "codes")):
        watcher.stage(video.path.name, name, int(sum(lengths[k] for k in video.done[step])), len(video.found.pts))
    if video.track is not None or len(video.done["faces"]) < len(chunks):
        return
    try:
        scans = [_load(video.file("faces", k, domain)) for k in range(len(chunks))]
        video.track = follow(video.path, video.found, scans)
    except UserError as error:
        failures[video.path.name] = str(error)
        return
    waiting.extend((video, "codes", k) for k in range(len(chunks)) if k not in video.done["codes"])


class Crew:
    """Workers of a running Ray: tasks on its CPUs; codes by an actor on each GPU, which CPU tasks feed with crops."""

    def __init__(self, domain: Domain):
        import ray

        total = ray.cluster_resources()
        cpus, gpus = int(total.get("CPU", 1)), int(total.get("GPU", 0))
        folder = str(Path(domain.folder).resolve())
        self.domain, self.room = domain, 2 * max(1, cpus)
        self._scan: Any = ray.remote(num_cpus=1, max_retries=3)(scan_stretch)
        self._codes: Any = ray.remote(num_cpus=1, max_retries=3)(code_stretch)
        self._cut: Any = ray.remote(num_cpus=1, max_retries=3, num_returns=2)(cut_stretch)
        encoder: Any = ray.remote(num_cpus=0, num_gpus=1, max_restarts=3, max_task_retries=3)(Encoder)
        self.encoders: list[Any] = [encoder.remote(folder, domain.digest) for _ in range(gpus)]
        self.folder, self.turn = folder, 0
        self._tracks: dict[str, Any] = {}

    def start(self, video: Video, step: str, number: int) -> Any:
        """Begin a stretch; what it returns is ready when its file is there."""
        import ray

        file, chunk, path = video.file(step, number, self.domain), video.found.chunks()[number], str(video.path)
        if step == "faces":
            return self._scan.remote(path, chunk, file)
        if video.digest not in self._tracks:
            self._tracks[video.digest] = ray.put(video.track)
        assert video.track is not None
        rows, size, track = video.track.rows(*chunk), alone.encoder_crop(self.domain), self._tracks[video.digest]
        if not self.encoders:
            return self._codes.remote(path, track, rows, size, self.folder, self.domain.digest, file)
        crops, people = self._cut.remote(path, track, rows, size)
        self.turn += 1
        return self.encoders[self.turn % len(self.encoders)].encode.remote(crops, people, file)

    def dismiss(self) -> None:
        import ray

        for encoder in self.encoders:
            ray.kill(encoder)


def scan_stretch(path: str, chunk: tuple[int, int], file: str) -> None:
    _save(file, scan(_there(path), chunk, face_finder()))


def code_stretch(path: str, track: Track, rows: slice, size: int, folder: str, digest: str, file: str) -> None:
    crops, people = alone.cut(_there(path), track, rows, size)
    _save(file, {"codes": alone.encode(_domain(folder, digest), crops), "people": people})


def cut_stretch(path: str, track: Track, rows: slice, size: int) -> tuple[np.ndarray, np.ndarray]:
    return alone.cut(_there(path), track, rows, size)


class Encoder:
    """An actor on a GPU."""

    def __init__(self, folder: str, digest: str):
        self.domain = _domain(folder, digest)

    def encode(self, crops: np.ndarray, people: np.ndarray, file: str) -> None:
        _save(file, {"codes": alone.encode(self.domain, crops), "people": people})


@cache
def _domain(folder: str, digest: str) -> Domain:
    from svgan.runs import pick_device

    domain = Domain.load(folder, pick_device("auto"))
    if domain.digest != digest:
        raise UserError(f"{folder}: another domain on this node ({domain.digest}) than the driver's ({digest})")
    return domain


def _there(path: str) -> Path:
    if not Path(path).exists():
        raise UserError(f"{path}: not on every node of the cluster; put it where all of them see it")
    return Path(path)


def _save(file: str, arrays: Arrays) -> None:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    shelf.write(file, out.getvalue())


def _load(file: str) -> Arrays:
    """Raises UserError for a file that went or is broken: with it gone, the same command makes it again."""
    try:
        with np.load(io.BytesIO(shelf.read(file) or b""), allow_pickle=False) as kept:
            return dict(kept)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{file}: broken; remove it, and give the command again") from error
