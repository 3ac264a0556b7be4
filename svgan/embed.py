"""From videos to a set of latents: decode, align, encode, write (`svgan embed`).

What takes long is kept per video as it is finished (alignment, then codes, under SVGAN_CACHE), so that a killed
command, given again, goes on where it was. The set itself appears whole at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from svgan import assets
from svgan.errors import UserError
from svgan.images.align import frame_rate
from svgan.images.aligned import ALIGN_VERSION, align_cached, cached_arrays, video_digest
from svgan.images.build import shrink
from svgan.images.domain import Domain
from svgan.latents.shards import Latents, Manifest, VideoCodes, write_latents

LEAST_CROP = 128  # pixels: landmarks and original-reference figures want more than a 64 px domain has


class Watcher:
    """Hears how an embedding goes; does nothing. `svgan.bars` draws bars from it."""

    def stage(self, video: str, stage: str, done: int, total: int) -> None:
        """`done` of about `total` frames ('landmarks', 'crops', 'codes'); total 0 where it is not known."""

    def finished(self, video: str, frames: int) -> None: ...


@dataclass(kw_only=True)
class Embedded:
    """manifest: of the set that was written. failures: reasons by video; those videos are not in the set."""

    manifest: Manifest
    failures: dict[str, str] = field(default_factory=dict)


def embed(
    videos: Sequence[str | Path],
    domain: Domain,
    out_uri: str | Path,
    *,
    components: int = 64,
    shard_rows: int = 2048,
    watcher: Watcher | None = None,
) -> Embedded:
    """Write the W+ codes of `videos` to `out_uri`, a video that fails being left out.

    All videos of a set share the first one's frame rate. Raises UserError when `out_uri` is taken or unwritable,
    two videos have one name, or every video failed; nothing is left at `out_uri` then.
    """
    if components < 1:
        raise UserError(f"--components {components}: must be 1 or more")
    watcher = watcher or Watcher()
    paths = [Path(video) for video in videos]
    names = [path.name for path in paths]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{doubled[0]}: two videos of this name; rename one, or give it once")
    failures: dict[str, str] = {}

    rates: dict[Path, float] = {}
    for path in paths:
        try:
            rates[path] = frame_rate(path)
        except UserError as error:
            failures[path.name] = str(error)
    fps = next(iter(rates.values()), 25.0)

    def finished() -> Iterator[VideoCodes]:
        for path, rate in rates.items():
            try:
                if abs(rate - fps) > 0.01 * fps:
                    raise UserError(f"{path}: {rate:g} frames a second, the set has {fps:g}; embed it on its own")
                codes = embed_video(path, domain, watcher)
            except UserError as error:
                failures[path.name] = str(error)
            else:
                watcher.finished(path.name, len(codes.index))
                yield codes
        if len(failures) == len(paths):
            raise UserError(f"no latents written: {'; '.join(failures.values())}")

    manifest = write_latents(
        out_uri, finished(), domain=domain.digest, fps=fps, components=components, shard_rows=shard_rows
    )
    return Embedded(manifest=manifest, failures=failures)


def embed_video(path: str | Path, domain: Domain, watcher: Watcher | None = None) -> VideoCodes:
    """Codes of every frame of a video with one clear face, from the cache when they were made before."""
    path, watcher = Path(path), watcher or Watcher()
    size = crop_size(domain)
    key = f"{video_digest(path)}-{size}-v{ALIGN_VERSION}-{domain.digest[:16]}"
    total = frame_count(path)

    def encode() -> dict[str, np.ndarray]:
        aligned = align_cached(path, size, lambda stage, done: watcher.stage(path.name, stage, done, total))
        parts = []
        for start in range(0, len(aligned.index), 256):
            parts.append(domain.encode(aligned.crops[start : start + 256]))
            watcher.stage(path.name, "codes", start + len(parts[-1]), len(aligned.index))
        return {"index": aligned.index, "codes": np.concatenate(parts)}

    kept = cached_arrays(assets.cache_folder() / "codes" / f"{key}.npz", encode)
    return VideoCodes(path.name, kept["index"], kept["codes"])


def original_frames(latents: Latents, videos: Sequence[str | Path], domain: Domain) -> np.ndarray:
    """The recorded frames uint8 [N, R, R, 3] behind every code, row by row: FVD's original reference.

    videos: the files that were embedded, found by name. Raises UserError when one is missing or gives other frames.
    """
    paths = {Path(video).name: Path(video) for video in videos}
    parts = []
    for row, video in enumerate(latents.manifest.videos):
        if video["name"] not in paths:
            raise UserError(f"--footage: {video['name']} is missing, but {latents.uri} holds its codes; give it too")
        aligned = align_cached(paths[video["name"]], crop_size(domain))
        wanted = latents.index[latents.video == row]
        rows = np.searchsorted(aligned.index, wanted).clip(max=len(aligned.index) - 1)
        if (aligned.index[rows] != wanted).any():
            raise UserError(f"--footage {paths[video['name']]}: not the video that {latents.uri} was made from")
        parts.append(shrink(aligned.crops[rows], domain.config.resolution))
    return np.concatenate(parts)


def crop_size(domain: Domain) -> int:
    """Side of the aligned crops in pixels: the domain's resolution, at least 128."""
    return max(LEAST_CROP, domain.config.resolution)


def frame_count(path: Path) -> int:
    """Frames that the container promises, 0 where it does not say."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        seconds = (container.duration or 0) / av.time_base
        return stream.frames or round(seconds * float(stream.average_rate or 25))
