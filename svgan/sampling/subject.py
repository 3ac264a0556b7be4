"""The subject that a clip's motion is transferred to: a photograph, or a set of latents.

Axes: L W+ layer, D width of W.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from svgan.errors import UserError
from svgan.faces.aligned_video import face_finder
from svgan.faces.alignment import ffhq_frame, quads_from, warp
from svgan.faces.original_frames import encoder_crop
from svgan.faces.tracking import largest
from svgan.images.domain import Domain
from svgan.io import storage
from svgan.latents.manifest import Latents
from svgan.latents.shards import open_latents

ENLARGE_TO = 640  # pixels: smaller photographs are enlarged for the detector


@dataclass(frozen=True)
class Subject:
    """A subject. code: W+ [L, D] float32. latents: the set whose mean it is; None for a photograph."""

    code: np.ndarray
    latents: Latents | None = None


def load_subject(where: str, domain: Domain, flag: str = "--subject") -> Subject:
    """Load the code of a picture, or the mean code of a set of latents (a folder or URL).

    flag: the flag that named it, for errors. Raises UserError for anything else, for a picture without one clear face,
    and for codes of another domain.
    """
    if storage.is_local(where) and storage.local_path(where).is_file():
        return Subject(photo_code(storage.local_path(where), domain, flag))
    latents = open_latents(where, domain=domain.digest)
    return Subject(latents.mean.reshape(latents.codes.shape[1:]), latents)


def photo_code(path: Path, domain: Domain, flag: str) -> np.ndarray:
    """Embed a photograph of one person, aligned as footage is, as a W+ code [L, D].

    flag: the flag that named it, for errors.
    """
    domain.check_embeds()
    picture = read_photo(path, flag)
    scale = max(1.0, ENLARGE_TO / max(picture.shape[:2]))
    if scale > 1:
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    faces = face_finder()(picture)
    if not faces:
        raise UserError(
            f"{flag} {path}: no face found; give a photo of one frontal face, an eighth of the photo or larger"
        )
    centres, axes = ffhq_frame(np.stack(faces).astype(np.float64))
    meant = largest(np.arange(len(faces)), np.linalg.norm(axes, axis=-1))
    if meant is None:
        raise UserError(f"{flag} {path}: {len(faces)} faces of similar size; crop the photo to one of them")
    quad = quads_from(centres[meant], axes[meant]).astype(np.float32)
    return domain.encode(warp(picture, quad, encoder_crop(domain))[None].copy())[0]


def read_photo(path: Path, flag: str) -> np.ndarray:
    """Read a picture file as uint8 [H, W, 3], rotated as its metadata says.

    flag: the flag that named it, for errors. Raises UserError for any other file.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except UnidentifiedImageError as error:
        raise UserError(
            f"{flag} {path}: neither a picture nor a set of latents; a video goes through svgan embed first"
        ) from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{flag} {path}: cannot be read ({error}); give another picture") from error
