"""`svgan embed` by many workers: the same stretches of the same videos, scanned and encoded wherever there is room.

Ray tasks, and an actor on each GPU (`encoder_pool`), are our choice over Ray Data: a video's landmarks must all be
there before its first crop, a video that fails is left out with its reason, and where no GPU is to be had CPUs go on,
none of which fits a dataset's fixed line of steps (docs/choices.md). Every finished stretch is a file in OUT.embedding,
beside the set that is to be, so that a driver killed at any moment goes on where it was, with whatever workers there
are then; nothing that was finished is done again. The driver keeps landmarks and codes, and never a picture, but that
where recorded frames are to lie beside the codes it cuts them at the end.

Videos and domain are read by the workers from the paths that were given: every node must have them there.
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
from svgan.pipelines import embed as alone
from svgan.pipelines.embed import Embedded, Watcher
from sweeps.parallel.encoder_pool import Arrays, Crew, Lost, Stretch, Video
from sweeps.storage import study_files
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
    """What `svgan.pipelines.embed.embed` does, with the tasks of a running Ray; the set is equal in every bit.

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
    work = f"{absolute(out).rstrip('/')}.embedding"  # a Ray Job's workers start in another folder than its driver
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
        recorded = alone.cutter(list(rates), domain, watcher) if frames else None
        manifest = write_latents(
            out, finished(), domain=domain.digest, fps=fps, components=components, recorded=recorded
        )
        study_files.remove(work)
    return Embedded(manifest=manifest, failures=failures)


def _opened(path: Path, work: str, domain: Domain) -> Video:
    """A video with what is finished of it."""
    digest = video_digest(path)
    video = Video(path=path, digest=digest, found=survey(path), place=f"{work}/{digest}-v{TRACK_VERSION}")
    there = set(study_files.names(video.place))
    for step, kept in video.done.items():
        for number in range(len(video.found.chunks())):
            if video.file(step, number, domain).rpartition("/")[2] in there:
                kept.add(number)
    return video


def _work(videos: list[Video], domain: Domain, failures: dict[str, str], watcher: Watcher) -> None:
    """Scan and encode all stretches that are not finished, as many at a time as there is room for."""
    lines: Lines = {"codes": deque(), "faces": deque()}  # the first that can go on does: nearer to a finished video
    for video in videos:
        chunks = range(len(video.found.chunks()))
        lines["faces"].extend(
            Stretch(video=video, step="faces", number=k) for k in chunks if k not in video.done["faces"]
        )
        _advance(video, domain, lines, failures, watcher)
    if not any(lines.values()):
        return
    crew = Crew(domain)
    try:
        while crew.running or any(lines.values()):
            crew.look(len(lines["codes"]))
            for step, line in lines.items():
                while line and crew.takes(step):
                    stretch = line.popleft()
                    if stretch.video.path.name not in failures:
                        crew.start(stretch)
            if (found := crew.wait()) is None:
                continue
            stretch, trouble = found
            video = stretch.video
            if isinstance(trouble, Lost):
                lines[stretch.step].appendleft(stretch)
            elif trouble is not None:
                failures[video.path.name] = str(trouble)
            else:
                video.done[stretch.step].add(stretch.number)
                _advance(video, domain, lines, failures, watcher)
    finally:
        crew.dismiss()


def _advance(video: Video, domain: Domain, lines: Lines, failures: dict[str, str], watcher: Watcher) -> None:
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
    left = [k for k in range(len(chunks)) if k not in video.done["codes"]]
    lines["codes"].extend(Stretch(video=video, step="codes", number=k) for k in left)


def _load(file: str) -> Arrays:
    """Raises UserError for a file that went or is broken: with it gone, the same command makes it again."""
    if (data := study_files.read(file)) is None:
        raise UserError(f"{file}: not here, though a worker wrote it; give an --out that all nodes share, or a URL")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            return dict(kept)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{file}: broken; remove it, and give the command again") from error
