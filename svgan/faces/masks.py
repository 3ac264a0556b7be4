"""Regions of a face, drawn from its 68 landmarks [68, 2] in pixels of an S x S crop."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from svgan.faces.alignment import LEFT_EYE, RIGHT_EYE

FACE, BROWS, MOUTH = slice(0, 27), slice(17, 27), slice(48, 60)
SUPERSAMPLE = 4


def face_hull(landmarks: np.ndarray, size: int) -> np.ndarray:
    """float32 [S, S] in 0..1: the face, from jaw line to brows, as the coverage of each pixel."""
    jaw, brows = landmarks[:17], landmarks[BROWS][::-1]
    return _polygon(np.concatenate([jaw, brows]), size)


def soft_face(landmarks: np.ndarray, size: int) -> np.ndarray:
    """float32 [S, S] in 0..1: face and brows, grown by a tenth, with soft edges, 0 at the crop's border."""
    points = landmarks[FACE]
    mask = _soften(face_hull((points - points.mean(0)) * 1.1 + points.mean(0), size), size / 24)
    ramp = np.minimum(np.arange(size), np.arange(size)[::-1]) / (size / 16)
    edge = np.minimum(ramp, 1).astype(np.float32)
    return mask * edge[:, None] * edge[None]


def reconstruction_weight(landmarks: np.ndarray, size: int) -> np.ndarray:
    """float32 [S, S]: the weight of each pixel in a reconstruction; 0.5 background, 2 face, 10 eyes, 6 mouth (ours)."""
    weight = np.maximum(0.5, 2.0 * _soften(face_hull(landmarks, size), size / 32))
    for part, value in ((LEFT_EYE, 10.0), (RIGHT_EYE, 10.0), (MOUTH, 6.0)):
        points = landmarks[part]
        grown = points.mean(0) + (points - points.mean(0)) * np.array([1.5, 1.5 if part is MOUTH else 2.5])
        weight = np.maximum(weight, value * _soften(_polygon(grown, size), size / 64))
    return weight.astype(np.float32)


def _polygon(points: np.ndarray, size: int) -> np.ndarray:
    picture = Image.new("L", (size * SUPERSAMPLE,) * 2)
    ImageDraw.Draw(picture).polygon([tuple(p) for p in (points * SUPERSAMPLE).tolist()], fill=255)
    return np.asarray(picture.reduce(SUPERSAMPLE), np.float32) / 255


def _soften(mask: np.ndarray, radius: float) -> np.ndarray:
    picture = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(picture, np.float32) / 255
