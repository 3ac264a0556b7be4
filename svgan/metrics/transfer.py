"""Metrics of motion transfer: whether the moved clip shows the target person, and makes the same movements.

The same frames are rendered unmoved, as the source clip, and moved by the offset (docs/papers.md#stylevideogan-offset).
The target is its own code, rendered. Identity is dlib's descriptor. Expression and pose are mouth opening, eye opening
and head yaw. They are correlated over time between the two clips, on frames in which both show a face. Reading a face
takes 0.1 s, so evenly spaced frames represent a long clip.

Axes: T frame, L W+ layer, D width of W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from svgan.images.domain import Domain
from svgan.metrics.identity import (
    FaceReader,
    Faces,
    eye_opening,
    head_yaw,
    identity_distance,
    mouth_opening,
    typical_descriptor,
)
from svgan.metrics.motion_stats import correlation

FRAMES, STEP = 60, 8


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Metrics of a moved clip; NaN means unknown. The first three are medians over frames.

    - identity_similarity: cosine between the descriptors of a moved frame and of the target.
    - identity_distance: distance between them (same person below 0.6).
    - source_distance: distance of the unmoved clip from the target.
    - mouth, eyes, yaw: correlations with the source clip.
    - faces: share of moved frames with a face.
    """

    frames: int
    faces: float
    identity_similarity: float
    identity_distance: float
    source_distance: float
    mouth: float
    eyes: float
    yaw: float

    def to_json(self) -> dict[str, float | None]:
        """Convert to JSON: rounded, with None for NaN."""
        return {name: None if math.isnan(value) else round(value, 4) for name, value in asdict(self).items()}


def transfer(
    codes: Tensor,
    move: Callable[[Tensor], Tensor],
    target: np.ndarray,
    domain: Domain,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Transfer:
    """Measure the transfer of frames' codes [T, L, D], in order of time, to the subject of code `target` [L, D]."""
    reader = FaceReader()
    own = typical_descriptor(reader.read(domain.render(target[None])).descriptors)
    sides: tuple[list[Faces], list[Faces]] = ([], [])
    for start in range(0, len(codes), STEP):
        part = codes[start : start + STEP]
        for side, some in zip(sides, (part, move(part)), strict=True):
            side.append(reader.read(domain.render(some)))
        progress(min(start + STEP, len(codes)), len(codes))
    source, moved = (_joined(side) for side in sides)

    def followed(measure: Callable[[np.ndarray], np.ndarray]) -> float:
        return correlation(measure(source.landmarks), measure(moved.landmarks))

    lengths = np.linalg.norm(moved.descriptors, axis=-1) * np.linalg.norm(own)
    return Transfer(
        frames=len(codes),
        faces=float(moved.found.mean()),
        identity_similarity=_median(moved.descriptors @ own / lengths),
        identity_distance=_median(identity_distance(moved.descriptors, own)),
        source_distance=_median(identity_distance(source.descriptors, own)),
        mouth=followed(mouth_opening),
        eyes=followed(eye_opening),
        yaw=followed(head_yaw),
    )


def evenly(pieces: Iterable[Tensor], length: int, count: int = FRAMES) -> Tensor:
    """Select at most `count` evenly spaced frames [n, L, D] of the first clip of a stream of codes [B, T', L, D]."""
    wanted = np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int))
    kept, start = [], 0
    for piece in pieces:
        here = wanted[(wanted >= start) & (wanted < start + piece.shape[1])] - start
        kept.append(piece[0, torch.from_numpy(here).to(piece.device)])
        start += piece.shape[1]
    return torch.cat(kept)


def _joined(parts: list[Faces]) -> Faces:
    return Faces(np.concatenate([p.landmarks for p in parts]), np.concatenate([p.descriptors for p in parts]))


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
