"""FFHQ alignment of faces, smoothed over time (docs/papers.md#stylevideogan-data).

The crop rule is FFHQ's, as used by pSp (`scripts/align_all_parallel.py`, facts only). With the vectors eye_to_eye and
eye_to_mouth, x = eye_to_eye - rot90(eye_to_mouth), normalised, times max(2.0 |eye_to_eye|, 1.8 |eye_to_mouth|); y =
rot90(x); centre = eyes + 0.1 eye_to_mouth. The quad is centre -/+ x -/+ y. Smoothing is a Gaussian over the frame
index, sigma 1 for the centre and 3 for the axes (STIT's values).

Shapes: N frame, H x W picture, 68 landmarks, S crop side in pixels. Points are (x, y) in pixels; a pixel's centre is a
whole number.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CENTRE_SIGMA, AXIS_SIGMA = 1.0, 3.0
SUPERSAMPLE = 4  # crops are warped at up to 4x and then box-reduced, against aliasing
SMALL = 128  # pixels: larger crops are warped at no more than the source's own resolution
DETECT_WITHIN = 640  # pixels: larger pictures are shrunk for the detector, which finds faces from 80 pixels

LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)  # of the 68; left in the picture
MOUTH_CORNERS = (48, 54)


class FaceFinder:
    """dlib's HOG detector and 68-point predictor.

    `predictor` is the path of `shape_predictor_68_face_landmarks.dat` (`svgan assets landmarks68`). A face must be 80
    pixels wide; in a picture of more than 640 pixels, an eighth of its longer side.
    """

    def __init__(self, predictor: str | Path):
        import dlib  # heavy, and only this room needs it

        self._box = dlib.rectangle
        self._detect = dlib.get_frontal_face_detector()
        self._predict = dlib.shape_predictor(str(predictor))

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        """Landmarks [68, 2] float32 of every face in a uint8 [H, W, 3] picture, largest face first."""
        picture = np.ascontiguousarray(picture)  # of rows with padding dlib reads memory that is already freed
        scale = max(1.0, max(picture.shape[:2]) / DETECT_WITHIN)
        boxes = sorted(self._detect(_shrunk(picture, scale), 0), key=lambda box: -box.area())
        shapes = [self._predict(picture, self._scaled(box, scale)) for box in boxes]
        return [np.array([(p.x, p.y) for p in shape.parts()], np.float32) for shape in shapes]

    def _scaled(self, box: Any, scale: float) -> Any:
        if scale == 1:
            return box
        return self._box(*(round(side * scale) for side in (box.left(), box.top(), box.right(), box.bottom())))


def _shrunk(picture: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return picture
    height, width = picture.shape[:2]
    size = (round(width / scale), round(height / scale))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def ffhq_frame(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre [..., 2] and half-axis x [..., 2] of the FFHQ crop for landmarks [..., 68, 2]."""
    left = landmarks[..., LEFT_EYE, :].mean(-2)
    right = landmarks[..., RIGHT_EYE, :].mean(-2)
    mouth = landmarks[..., MOUTH_CORNERS, :].mean(-2)
    eyes, eye_to_eye = (left + right) / 2, right - left
    eye_to_mouth = mouth - eyes
    axis = eye_to_eye - _rot90(eye_to_mouth)
    axis = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    length = np.maximum(
        2.0 * np.linalg.norm(eye_to_eye, axis=-1, keepdims=True),
        1.8 * np.linalg.norm(eye_to_mouth, axis=-1, keepdims=True),
    )
    return eyes + 0.1 * eye_to_mouth, axis * length


def quads_from(centre: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Corners [..., 4, 2] (top left, bottom left, bottom right, top right) of the crops."""
    y = _rot90(x)
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y], axis=-2)


def _rot90(v: np.ndarray) -> np.ndarray:
    """(x, y) -> (-y, x): a quarter turn, clockwise as seen in a picture (y points down)."""
    return np.stack([-v[..., 1], v[..., 0]], axis=-1)


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian low-pass of [N, K] over N, normalised at the ends, so that no frame is extrapolated."""
    if len(values) < 2:
        return values
    radius = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)

    def filtered(x: np.ndarray) -> np.ndarray:
        return np.convolve(x, kernel)[radius : radius + len(x)]

    weight = filtered(np.ones(len(values)))
    return np.stack([filtered(column) / weight for column in values.T], axis=1)


def smooth_quads(landmarks: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Crop corners [N, 4, 2] from landmarks [N, 68, 2], smoothed within every run of consecutive frames."""
    centre, axis = ffhq_frame(landmarks.astype(np.float64))
    for run in runs(index):
        centre[run] = smooth(centre[run], CENTRE_SIGMA)
        axis[run] = smooth(axis[run], AXIS_SIGMA)
    return quads_from(centre, axis).astype(np.float32)


def runs(index: np.ndarray) -> list[slice]:
    """Slices of an increasing index that step by exactly one."""
    cuts = np.flatnonzero(np.diff(index) != 1) + 1
    edges = [0, *cuts.tolist(), len(index)]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]


def warp(picture: np.ndarray, quad: np.ndarray, size: int) -> np.ndarray:
    """Warp the quad of a uint8 [H, W, 3] picture to uint8 [size, size, 3]. The border is mirrored."""
    low, high = np.floor(quad.min(0)).astype(int), np.ceil(quad.max(0)).astype(int)
    height, width = picture.shape[:2]
    rows = max(0, int(-low[1]), int(high[1]) - height + 1)
    columns = max(0, int(-low[0]), int(high[0]) - width + 1)
    if rows or columns:
        beyond = ((rows, rows), (columns, columns), (0, 0))
        near = rows < height and columns < width
        picture = np.pad(picture, beyond, mode="reflect" if near else "edge")
    corners = (quad + np.array([columns, rows]) + 0.5).flatten().tolist()
    finer = SUPERSAMPLE
    if size > SMALL:
        finer = min(SUPERSAMPLE, max(1, math.ceil(np.linalg.norm(quad[3] - quad[0]) / size)))
    big = size * finer
    turned = Image.fromarray(picture).transform((big, big), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
    return np.asarray(turned.reduce(finer))


def to_crop(points: np.ndarray, quads: np.ndarray, size: int) -> np.ndarray:
    """Map points [N, K, 2] of the source to pixels of the crops of quads [N, 4, 2]."""
    origin = quads[:, :1]
    across, down = quads[:, 3] - quads[:, 0], quads[:, 1] - quads[:, 0]
    basis = np.stack([across, down], axis=1)  # rows: crop x, crop y in source pixels
    return (points - origin) @ np.linalg.inv(basis) * size
