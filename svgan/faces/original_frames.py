"""Cut the recorded frames behind a set of codes from the videos again, and the sizes of the crops."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from svgan.assets import cache
from svgan.errors import UserError
from svgan.faces.aligned_video import align_cached, frames_at, video_digest
from svgan.faces.alignment import warp
from svgan.faces.crops import shrink
from svgan.images.domain import Domain
from svgan.io.atomic import disk_errors
from svgan.latents.manifest import Latents
from svgan.latents.origins import Origins
from svgan.latents.shards import open_origins

LEAST_CROP = 128  # pixels: landmarks and original-reference figures want more than a 64 px domain has


def original_frames(latents: Latents, videos: Sequence[str | Path], domain: Domain) -> np.ndarray:
    """The recorded frames uint8 [N, R, R, 3] behind every code, row by row: FVD's original reference.

    They lie in a temporary file of the cache, because ten minutes of 1024 px are 47 GB. videos: the files that were
    embedded, found by name. Raises UserError if one is missing or gives other frames, and on a full disk.
    """
    paths = {Path(video).name: Path(video) for video in videos}
    known = open_origins(latents)
    shape = (domain.config.resolution, domain.config.resolution, 3)
    folder, done = cache.cache_folder(), 0
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        for number, video in enumerate(latents.manifest.videos):
            if video["name"] not in paths:
                raise UserError(
                    f"--footage: {video['name']} is missing, but {latents.uri} holds its codes; give it too"
                )
            path, wanted = paths[video["name"]], latents.index[latents.video == number]
            again = (
                cut_again(path, known[video["name"]], domain)
                if video["name"] in known
                else _found_again(path, wanted, domain, latents.uri)
            )
            for row, frame in again:
                with disk_errors(folder):
                    file.seek((done + row) * math.prod(shape))
                    file.write(frame.tobytes())
            done += len(wanted)
        with disk_errors(folder):
            file.flush()
        return np.memmap(file, np.uint8, "c", shape=(done, *shape))


def cut_again(path: Path, origins: Origins, domain: Domain) -> Iterator[tuple[int, np.ndarray]]:
    """Rows and frames uint8 [R, R, 3] of the codes, by the transforms that were kept with them."""
    if video_digest(path) != origins.source:
        raise UserError(f"--footage {path}: not the video that was embedded under this name; give that one")
    for row, picture in frames_at(path, origins.pts):
        yield row, shrink(warp(picture, origins.quads[row], crop_size(domain))[None], domain.config.resolution)[0]


def _found_again(path: Path, wanted: np.ndarray, domain: Domain, uri: str) -> Iterator[tuple[int, np.ndarray]]:
    """Rows and frames of codes without transforms: their faces are found again."""
    aligned = align_cached(path, crop_size(domain))
    rows = np.searchsorted(aligned.index, wanted).clip(max=len(aligned.index) - 1)
    if (aligned.index[rows] != wanted).any():
        raise UserError(f"--footage {path}: not the video that {uri} was made from")
    for row, found in enumerate(rows):
        yield row, shrink(aligned.crops[found][None], domain.config.resolution)[0]


def encoder_crop(domain: Domain) -> int:
    """The side in pixels of the aligned crops for the encoder, at least 128."""
    return max(LEAST_CROP, domain.side)


def crop_size(domain: Domain) -> int:
    """The side in pixels of the aligned crops for comparing pictures: the domain's resolution, at least 128."""
    return max(LEAST_CROP, domain.config.resolution)
