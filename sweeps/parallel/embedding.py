"""`svgan embed` on a cluster: many workers scan and encode the stretches of the same videos.

We use Ray tasks and one actor per GPU (`encoder_pool`) instead of Ray Data (docs/choices.md). All landmarks of a video
must be known before its first crop. A video that fails is left out with its reason. CPUs go on when no GPU can be had.

Every finished stretch is a file in OUT.embedding, beside the set to be written. A driver that is killed continues
there, with any number of workers, and repeats nothing. The driver holds landmarks and codes, but no pictures, except
that it cuts the recorded frames at the end if they are asked for.

Workers read the videos and the domain from the paths given, so every node must have them there.
"""

from __future__ import annotations

import io
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from svgan.errors import UserError
from svgan.faces.aligned_video import TRACK_VERSION, video_digest
from svgan.faces.tracking import follow
from svgan.images.domain import Domain
from svgan.io import storage
from svgan.io.storage_errors import storage_errors
from svgan.io.video_reader import survey
from svgan.latents.manifest import MANIFEST, VideoCodes
from svgan.latents.shards import write_latents
from svgan.pipelines import embed as embed_steps
from svgan.pipelines.embed import Embedded, Watcher
from sweeps.parallel.encoder_pool import EncoderPool, Stretch, Video, WorkerLost
from sweeps.parallel.remote_tasks import Arrays
from sweeps.storage.paths import absolute

Lines = dict[str, deque[Stretch]]


def embed(
    videos: Sequence[str | Path],
    domain: Domain,
    out: str,
    *,
    components: int = 64,
    frames: bool = False,
    watcher: Watcher | None = None,
) -> Embedded:
    """Embed videos with the tasks of a running Ray. The set equals that of `svgan.pipelines.embed.embed` on such a
    machine.

    Raises UserError as that does; finished stretches stay in OUT.embedding.
    """
    watcher = watcher or Watcher()
    domain.check_embeds()
    paths = embed_steps.check_names(videos)
    embed_steps.check_components(components)
    if storage.read_or_explain(storage.join(out, MANIFEST)) is not None:
        raise UserError(f"{out}: already holds a {MANIFEST}; give another place, or remove it first")
    failures: dict[str, str] = {}
    rates = embed_steps.read_frame_rates([path.absolute() for path in paths], failures)
    work = f"{absolute(out).rstrip('/')}.embedding"  # a Ray Job's workers start in another folder than its driver
    with storage_errors(work, "write"):
        started = [_open(path, work, domain) for path in rates]
        _work(started, domain, failures, watcher)

        def finished() -> Iterator[VideoCodes]:
            for video in started:
                if video.path.name not in failures and video.track is not None:
                    parts = [_load(video.file("codes", k, domain)) for k in sorted(video.done["codes"])]
                    codes, summary = embed_steps.gather_codes(video.track, video.digest, parts)
                    watcher.finished(video.path.name, summary)
                    yield codes
            if len(failures) == len(paths):
                raise UserError(f"no latents written: {'; '.join(failures.values())}")

        fps = next(iter(rates.values()), 25.0)
        recorded = embed_steps.make_cutter(list(rates), domain, watcher) if frames else None
        manifest = write_latents(
            out, finished(), domain=domain.digest, fps=fps, components=components, recorded=recorded
        )
        storage.remove(work)
    return Embedded(manifest=manifest, failures=failures)


def _open(path: Path, work: str, domain: Domain) -> Video:
    """A video, and which of its stretches are finished."""
    digest = video_digest(path)
    video = Video(path=path, digest=digest, found=survey(path), place=f"{work}/{digest}-v{TRACK_VERSION}")
    there = set(storage.names(video.place))
    for step, kept in video.done.items():
        for number in range(len(video.found.chunks())):
            if video.file(step, number, domain).rpartition("/")[2] in there:
                kept.add(number)
    return video


def _work(videos: list[Video], domain: Domain, failures: dict[str, str], watcher: Watcher) -> None:
    """Scan and encode all unfinished stretches, as many at once as the pool has room for."""
    lines: Lines = {"codes": deque(), "faces": deque()}  # codes first: they finish a video
    for video in videos:
        chunks = range(len(video.found.chunks()))
        lines["faces"].extend(
            Stretch(video=video, step="faces", number=k) for k in chunks if k not in video.done["faces"]
        )
        _advance(video, domain, lines, failures, watcher)
    if not any(lines.values()):
        return
    pool = EncoderPool(domain)
    try:
        while pool.running or any(lines.values()):
            pool.update(len(lines["codes"]))
            for step, line in lines.items():
                while line and pool.has_room_for(step):
                    stretch = line.popleft()
                    if stretch.video.path.name not in failures:
                        pool.start(stretch)
            if (found := pool.wait()) is None:
                continue
            stretch, trouble = found
            video = stretch.video
            if isinstance(trouble, WorkerLost):
                lines[stretch.step].appendleft(stretch)
            elif trouble is not None:
                failures[video.path.name] = str(trouble)
            else:
                video.done[stretch.step].add(stretch.number)
                _advance(video, domain, lines, failures, watcher)
    finally:
        pool.close()


def _advance(video: Video, domain: Domain, lines: Lines, failures: dict[str, str], watcher: Watcher) -> None:
    """Report a video's progress. Once all its stretches are scanned, track its subject and queue its codes."""
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
    left = [k for k in range(len(chunks)) if k not in video.done["codes"]]
    lines["codes"].extend(Stretch(video=video, step="codes", number=k) for k in left)


def _load(file: str) -> Arrays:
    """Load the arrays of a finished stretch. Raises UserError if the file is missing or broken; the same command
    makes a missing one again."""
    if (data := storage.read(file)) is None:
        raise UserError(f"{file}: not here, though a worker wrote it; give an --out that all nodes share, or a URL")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            return dict(kept)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{file}: broken; remove it, and give the command again") from error
