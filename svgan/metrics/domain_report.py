"""How good is a domain? Reconstructions of held-out footage, and random subjects of its mapping network.

Faces are found on frames enlarged to 256 px, the originals enlarged alike, so both sides lose the same detail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image

from svgan.images.align import AlignedVideo
from svgan.images.build import shrink
from svgan.images.domain import Domain
from svgan.images.masks import face_hull
from svgan.metrics.identity import FaceReader, eye_opening, head_yaw, identity_distance, mouth_opening

ENLARGED = 256
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Held-out frames against their reconstructions. PSNR in dB; identity is dlib's distance (same person < 0.6);
    mouth, eyes and yaw are correlations over time; faces is the share of reconstructions with a detected face."""

    frames: int
    psnr_face: float
    psnr_frame: float
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


def enlarge(pictures: np.ndarray, size: int = ENLARGED) -> np.ndarray:
    """uint8 [N, R, R, 3] to [N, size, size, 3], bicubic."""
    resized = (Image.fromarray(p).resize((size, size), Image.Resampling.BICUBIC) for p in pictures)
    return np.stack([np.asarray(p) for p in resized])


def reconstruction(
    domain: Domain, video: AlignedVideo, rows: slice, reader: FaceReader, progress: Progress = lambda *_: None
) -> tuple[Reconstruction, np.ndarray, np.ndarray]:
    """Figures, frames and reconstructions (uint8 [N, R, R, 3]) of the given rows of a video."""
    size = domain.config.resolution
    frames = shrink(video.crops[rows], size)
    rebuilt = domain.render(domain.encode(frames))
    points = video.landmarks[rows] * (size / video.crops.shape[1])
    hull = np.stack([face_hull(p, size) for p in points])

    seen, identities = [], []
    for k, (a, b) in enumerate(zip(enlarge(frames), enlarge(rebuilt), strict=True)):
        progress("faces", k + 1, len(frames))
        one, two = reader(a), reader(b)
        if one is not None and two is not None:
            seen.append((one.landmarks, two.landmarks))
            identities.append(identity_distance(one.descriptor, two.descriptor))
    original, copy = (np.stack(side) for side in zip(*seen, strict=True)) if seen else (np.zeros((0, 68, 2)),) * 2

    def correlation(measure: Callable[[np.ndarray], np.ndarray]) -> float:
        return float(np.corrcoef(measure(original), measure(copy))[0, 1]) if len(seen) > 2 else float("nan")

    figures = Reconstruction(
        frames=len(frames),
        psnr_face=psnr(frames, rebuilt, hull),
        psnr_frame=psnr(frames, rebuilt),
        identity=float(np.median(identities)) if identities else float("nan"),
        mouth=correlation(mouth_opening),
        eyes=correlation(eye_opening),
        yaw=correlation(head_yaw),
        faces=len(seen) / len(frames),
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
    found = [reader(p) for p in enlarge(pictures)]
    near = [min(identity_distance(face.descriptor, p) for p in people) for face in found if face is not None]
    nearest = nearest_frames(pictures, training)
    figures = RandomSubjects(
        samples=samples,
        truncation=truncation,
        faces=len(near) / samples,
        known=sum(d < 0.6 for d in near) / samples,
        crowding=float(np.bincount(nearest).max() / samples),
    )
    return figures, pictures


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


def as_facts(*figures: Reconstruction | RandomSubjects) -> dict[str, dict[str, float]]:
    """Figures for domain.json, rounded to what they are worth."""
    named = {type(f).__name__: f for f in figures}
    return {k: {a: round(v, 4) if isinstance(v, float) else v for a, v in asdict(f).items()} for k, f in named.items()}
