"""How good is a domain? Reconstructions of held-out footage, and random subjects of its mapping network.

Faces are found on frames enlarged to 256 px, the originals enlarged alike, so both sides lose the same detail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from svgan.images.aligned import AlignedVideo
from svgan.images.build import shrink
from svgan.images.domain import Domain
from svgan.images.masks import face_hull
from svgan.metrics.identity import FaceReader, Faces, eye_opening, head_yaw, identity_distance, mouth_opening

SAME_PERSON = 0.6  # dlib's threshold on the distance of descriptors
LEAST_FACES = 3  # frames with a face on both sides that a correlation needs
LUMA = np.array([0.299, 0.587, 0.114])
STEP = 64  # frames read between two words of progress
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Held-out frames against their reconstructions. PSNR in dB; SSIM 1 for equal frames; identity is dlib's distance
    (same person < 0.6);
    mouth, eyes and yaw are correlations over time; faces is the share of reconstructions with a detected face.
    NaN: no face, for identity; fewer than three frames with a face on both sides or no motion, for correlations."""

    frames: int
    psnr_face: float
    psnr_frame: float
    ssim: float
    identity: float
    mouth: float
    eyes: float
    yaw: float
    faces: float


@dataclass(frozen=True, kw_only=True)
class RandomSubjects:
    """Samples of the mapping network. known: share with a face within 0.6 of one of the subjects. crowding: largest
    share of samples whose nearest training frame is one and the same."""

    samples: int
    truncation: float
    faces: float
    known: float
    crowding: float


def psnr(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of uint8 pictures [N, R, R, 3]; weight [N, R, R] restricts it to a region."""
    error = ((x.astype(np.float64) - y) ** 2).mean(-1)
    mean = error.mean() if weight is None else (error * weight).sum() / weight.sum()
    return float(10 * np.log10(255**2 / max(mean, 1e-12)))


def ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Mean structural similarity of the luma of uint8 pictures [N, R, R, 3], R of 11 or more (Wang et al. 2004,
    equation 13: Gaussian windows of 11 x 11, sigma 1.5, K1 0.01, K2 0.03)."""
    at = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-at.square() / (2 * 1.5**2))
    window = (torch.outer(line, line) / line.sum() ** 2)[None, None]

    def local(values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(values, window)

    a, b = (torch.from_numpy(side @ LUMA)[:, None] for side in (x, y))
    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    both = local(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similar = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(similar.mean())


def reconstruction(
    domain: Domain, video: AlignedVideo, rows: slice, reader: FaceReader, progress: Progress = lambda *_: None
) -> tuple[Reconstruction, np.ndarray, np.ndarray]:
    """Figures, frames and reconstructions (uint8 [N, R, R, 3]) of the given rows of a video."""
    size = domain.config.resolution
    frames = shrink(video.crops[rows], size)
    rebuilt = domain.render(domain.encode(frames))
    points = video.landmarks[rows] * (size / video.crops.shape[1])
    hull = np.stack([face_hull(p, size) for p in points])

    original = _read(reader, frames, "faces of the footage", progress)
    copy = _read(reader, rebuilt, "faces of the reconstructions", progress)
    both = original.found & copy.found
    distances = identity_distance(original.descriptors[both], copy.descriptors[both])

    def correlation(measure: Callable[[np.ndarray], np.ndarray]) -> float:
        pair = np.stack([measure(original.landmarks[both]), measure(copy.landmarks[both])])
        varied = both.sum() >= LEAST_FACES and (pair.std(1) > 0).all()
        return float(np.corrcoef(pair)[0, 1]) if varied else float("nan")

    figures = Reconstruction(
        frames=len(frames),
        psnr_face=psnr(frames, rebuilt, hull),
        psnr_frame=psnr(frames, rebuilt),
        ssim=ssim(frames, rebuilt),
        identity=float(np.median(distances)) if both.any() else float("nan"),
        mouth=correlation(mouth_opening),
        eyes=correlation(eye_opening),
        yaw=correlation(head_yaw),
        faces=float(copy.found.mean()),
    )
    return figures, frames, rebuilt


def random_subjects(
    domain: Domain,
    training: np.ndarray,
    people: np.ndarray,
    reader: FaceReader,
    *,
    samples: int = 200,
    truncation: float = 0.7,
    seed: int = 0,
) -> tuple[RandomSubjects, np.ndarray]:
    """Figures and pictures of random subjects.

    training: uint8 [N, R, R, 3], the frames trained on. people: [P, 128], one descriptor a person.
    """
    z = torch.randn(samples, domain.config.w_dim, generator=torch.Generator().manual_seed(seed)).to(domain.device)
    codes = domain.generator.broadcast(domain.generator.map(z, truncation))
    pictures = domain.render(codes)
    faces = reader.read(pictures)
    near = np.fmin.reduce([identity_distance(faces.descriptors, person) for person in people])  # NaN: no face
    nearest = nearest_frames(pictures, training)
    figures = RandomSubjects(
        samples=samples,
        truncation=truncation,
        faces=float(faces.found.mean()),
        known=float((near < SAME_PERSON).mean()),
        crowding=float(np.bincount(nearest).max() / samples),
    )
    return figures, pictures


def _read(reader: FaceReader, frames: np.ndarray, stage: str, progress: Progress) -> Faces:
    parts = []
    for start in range(0, len(frames), STEP):
        parts.append(reader.read(frames[start : start + STEP]))
        progress(stage, min(start + STEP, len(frames)), len(frames))
    return Faces(np.concatenate([p.landmarks for p in parts]), np.concatenate([p.descriptors for p in parts]))


def nearest_frames(pictures: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """For each uint8 picture [N, ...] the row of the nearest frame [M, ...], by squared pixel distance."""
    a = torch.from_numpy(pictures.reshape(len(pictures), -1)).float()
    b = torch.from_numpy(frames.reshape(len(frames), -1)).float()
    return torch.cdist(a, b).argmin(1).numpy()


def pairs_sheet(frames: np.ndarray, rebuilt: np.ndarray, columns: int = 12, rows: int = 4) -> np.ndarray:
    """A picture of evenly spaced frames, each above its reconstruction: uint8 [rows 2 R, columns R, 3]."""
    pick = np.linspace(0, len(frames) - 1, columns * rows).astype(int).reshape(rows, columns)
    lines = [np.concatenate(side[row], 1) for row in pick for side in (frames, rebuilt)]
    return np.concatenate(lines)


def as_facts(*figures: Reconstruction | RandomSubjects) -> dict[str, dict[str, float | None]]:
    """Figures for domain.json, rounded to what they are worth; None for NaN, which JSON does not know."""

    def fact(value: float) -> float | None:
        return None if math.isnan(value) else round(value, 4)

    return {type(f).__name__: {name: fact(value) for name, value in asdict(f).items()} for f in figures}
