"""Paste generated faces back into the recorded frames, if the set of latents knows the crop of each frame.

The longest clip of the video is used (of equal ones the first), from its first frame on, with one generated frame for
each recorded one. The output has the size of the recorded frames, the frame rate of the set, and no sound. It is as
long as the shorter of the two. Only the face is replaced: the area from jaw line to brows of the recorded landmarks,
slightly enlarged, with a soft edge.

Axes: T frame, H x W recorded picture, R pixels of the domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from svgan.errors import UserError
from svgan.faces.aligned_video import frames_at, video_digest
from svgan.faces.alignment import runs, to_crop
from svgan.faces.masks import soft_face
from svgan.latents.manifest import Latents
from svgan.latents.origins import Origins
from svgan.latents.shards import open_origins

MASK = 128  # side in pixels of the mask of a crop


@dataclass(frozen=True, kw_only=True)
class Place:
    """The longest clip of a video: its recorded frames, [T], and their crops."""

    path: Path
    origins: Origins
    fps: float

    @property
    def frames(self) -> int:
        return len(self.origins.pts)


def find_place(path: Path, sets: Sequence[Latents]) -> Place:
    """Find the longest clip of the video in the first of these sets that contains it; the video is known by its
    content.

    Raises UserError if no set contains the video, or if the set that names it has no record of its frames.
    """
    digest = video_digest(path)
    for latents in sets:
        for name, origins in open_origins(latents).items():
            if origins.source == digest:
                row = [video["name"] for video in latents.manifest.videos].index(name)
                index = latents.index[latents.video == row]
                longest = max(runs(index), key=lambda run: run.stop - run.start)
                return Place(path=path, origins=origins[longest], fps=latents.manifest.fps)
    remedy = f"embed it (svgan embed {path} --out ...), and give the run of those latents, or them as --subject"
    for latents in sets:
        if not latents.manifest.frames and any(video["name"] == path.name for video in latents.manifest.videos):
            raise UserError(f"--paste-back {path}: {latents.uri} was made without the frames' landmarks; {remedy}")
    where = " or ".join(latents.uri for latents in sets)
    raise UserError(f"--paste-back {path}: not a video that was embedded into {where}; {remedy}")


def paste_faces(place: Place, faces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield recorded frames uint8 [H, W, 3] with `faces` uint8 [R, R, 3] pasted in; one frame is in memory at a
    time.
    """
    landmarks = to_crop(place.origins.landmarks, place.origins.quads, MASK)
    for (row, picture), face in zip(frames_at(place.path, place.origins.pts), faces, strict=False):
        yield paste_face(picture, face, place.origins.transform[row], soft_face(landmarks[row], MASK))


def paste_face(picture: np.ndarray, face: np.ndarray, transform: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Paste a crop uint8 [R, R, 3] into a picture uint8 [H, W, 3].

    transform [2, 3]: from the crop to the picture. mask [S, S]: weight of the crop, in 0..1.
    """
    height, width = picture.shape[:2]
    corners = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1], [1, 0, 1]]) @ transform.T.astype(np.float64)
    left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, [width, height])
    if right <= left or bottom <= top:
        return picture
    size = (int(right - left), int(bottom - top))
    back = np.linalg.inv(transform[:, :2].astype(np.float64))
    start = back @ (np.array([left, top]) - transform[:, 2] - 0.5)

    def turned(crop: Image.Image) -> np.ndarray:
        side = crop.size[0]
        matrix = np.column_stack([back, start]) * side
        coefficients = tuple(matrix.flatten().tolist())
        return np.asarray(crop.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC))

    weight = turned(Image.fromarray((mask * 255).round().astype(np.uint8)))[..., None].astype(np.float32) / 255
    result = picture.copy()
    under = result[top:bottom, left:right]
    under[:] = (under + weight * (turned(Image.fromarray(face)) - under.astype(np.float32))).round().clip(0, 255)
    return result
