"""The quality of a domain: reconstructions of held-out footage, and random subjects of its mapping network.

Faces are detected on frames enlarged to 256 px. The originals are enlarged in the same way, so both sides lose the same
detail.

Axes: N frame, R pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch

from svgan.errors import UserError
from svgan.faces.aligned_video import AlignedVideo, align_video, track_cached
from svgan.faces.crops import shrink, split
from svgan.faces.masks import face_hull
from svgan.images.domain import Domain
from svgan.metrics.identity import FaceReader, eye_opening, head_yaw, identity_distance, mouth_opening
from svgan.metrics.intervals import DRAWS, Interval, interval, resamples

SAME_PERSON = 0.6  # dlib's threshold on the distance of descriptors
LEAST_FACES = 3  # frames with a face on both sides that a correlation needs
LUMA = np.array([0.299, 0.587, 0.114])
STEP = 64  # frames between two reports of progress
AT_MOST_ONE = ("ssim", "mouth", "eyes", "yaw", "faces")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Metrics of held-out frames against their reconstructions.

    - psnr in dB; ssim is 1 for equal frames; identity is dlib's distance (same person < 0.6).
    - mouth, eyes and yaw are correlations over time; faces is the share of reconstructions with a detected face.
    - NaN means no face, for identity; for correlations fewer than three frames with a face on both sides, or no motion.
    """

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
    """Metrics of samples of the mapping network.

    known: share of samples with a face within 0.6 of one of the subjects. crowding: the largest share of samples that
    have the same nearest training frame.
    """

    samples: int
    truncation: float
    faces: float
    known: float
    crowding: float


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of uint8 pictures."""
    return float(10 * np.log10(255**2 / max(error, 1e-12)))


def ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Mean structural similarity of the luma of uint8 pictures [N, R, R, 3], R of 11 or more.

    Wang et al. 2004, equation 13, with Gaussian windows of 11 x 11, sigma 1.5, K1 0.01 and K2 0.03.
    """
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


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Measurements of frames and their reconstructions, [N] each; NaN if either side shows no face.

    second: the second of the video that a frame belongs to. error: mean squared error. face_error: squared error summed
    over the face's pixels, whose number is face_pixels. mouth, eyes, yaw: [N, 2], of the frame and of its
    reconstruction. seen: whether the reconstruction shows a face.
    """

    second: np.ndarray
    error: np.ndarray
    face_error: np.ndarray
    face_pixels: np.ndarray
    ssim: np.ndarray
    distance: np.ndarray
    mouth: np.ndarray
    eyes: np.ndarray
    yaw: np.ndarray
    seen: np.ndarray

    @classmethod
    def measure(cls, video: AlignedVideo, frames: np.ndarray, rebuilt: np.ndarray, reader: FaceReader) -> Compared:
        """Measure a video's frames, in the domain's size, against their reconstructions; both uint8 [N, R, R, 3]."""
        size = frames.shape[1]
        hulls = [face_hull(points * (size / video.crops.shape[1]), size) for points in video.landmarks]
        errors = [((x.astype(np.float64) - y) ** 2).mean(-1) for x, y in zip(frames, rebuilt, strict=True)]
        original, copy = reader.read(frames), reader.read(rebuilt)
        both = (original.found & copy.found)[:, None]

        def measured(measure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
            pair = np.stack([measure(original.landmarks), measure(copy.landmarks)], 1)
            return np.where(both, pair, np.nan)

        return cls(
            second=video.index // max(1, round(video.fps)),
            error=np.array([error.mean() for error in errors]),
            face_error=np.array([(error * hull).sum() for error, hull in zip(errors, hulls, strict=True)]),
            face_pixels=np.array([hull.sum() for hull in hulls]),
            ssim=np.array([ssim(x[None], y[None]) for x, y in zip(frames, rebuilt, strict=True)]),
            distance=np.where(both[:, 0], identity_distance(original.descriptors, copy.descriptors), np.nan),
            mouth=measured(mouth_opening),
            eyes=measured(eye_opening),
            yaw=measured(head_yaw),
            seen=copy.found,
        )

    @classmethod
    def joined(cls, parts: Iterable[Compared]) -> Compared:
        parts = list(parts)
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def figures(self, rows: np.ndarray | slice = slice(None)) -> Reconstruction:
        """Compute the metrics of all frames, or of these rows; a row may occur several times."""
        known = self.distance[rows][np.isfinite(self.distance[rows])]
        return Reconstruction(
            frames=len(self.error[rows]),
            psnr_face=psnr(self.face_error[rows].sum() / self.face_pixels[rows].sum()),
            psnr_frame=psnr(self.error[rows].mean()),
            ssim=float(self.ssim[rows].mean()),
            identity=float(np.median(known)) if len(known) else float("nan"),
            mouth=_correlation(self.mouth[rows]),
            eyes=_correlation(self.eyes[rows]),
            yaw=_correlation(self.yaw[rows]),
            faces=float(self.seen[rows].mean()),
        )

    def intervals(self, draws: int = DRAWS) -> dict[str, Interval]:
        """Return the 95 % bootstrap interval of each metric.

        Whole seconds of the video are resampled, because neighbouring frames are alike (blocks, Carlstein 1986). Ends
        are NaN if all frames belong to one second, or the metric is NaN.
        """
        _, block = np.unique(self.second, return_inverse=True)
        blocks = resamples(block.max() + 1, draws) if block.max() else ()
        rows = np.arange(len(block))
        again = [asdict(self.figures(np.repeat(rows, counts[block]))) for counts in blocks]
        found = {}
        for name, value in asdict(self.figures()).items():
            redrawn = np.array([figures[name] for figures in again])
            around = Interval(value, np.nan, np.nan)
            if np.isfinite(redrawn).any():
                around = interval(value, redrawn)
            high = min(around.high, 1.0) if name in AT_MOST_ONE else around.high
            found[name] = Interval(value, around.low, high)
        del found["frames"]
        return found


def _correlation(pairs: np.ndarray) -> float:
    """Correlation of pairs [N, 2] without NaN; NaN if too few remain, or if a side never moves."""
    known = pairs[np.isfinite(pairs).all(1)]
    varied = len(known) >= LEAST_FACES and (np.ptp(known, 0) > 0).all()
    return float(np.corrcoef(known.T)[0, 1]) if varied else float("nan")


def reconstruction(
    domain: Domain, video: AlignedVideo, reader: FaceReader, progress: Progress = lambda *_: None
) -> tuple[Reconstruction, np.ndarray, np.ndarray]:
    """Return metrics, frames and reconstructions (uint8 [N, R, R, 3]) of a video's frames."""
    frames = shrink(video.crops, domain.config.resolution)
    rebuilt = domain.render(domain.encode(frames))
    parts = []
    for start in range(0, len(frames), STEP):
        rows = slice(start, start + STEP)
        parts.append(Compared.measure(video.part(rows), frames[rows], rebuilt[rows], reader))
        progress("reconstructions", min(start + STEP, len(frames)), len(frames))
    return Compared.joined(parts).figures(), frames, rebuilt


def measure_footage(
    domain: Domain,
    path: Path,
    size: int,
    reader: FaceReader,
    *,
    every: int = 5,
    shown: int = 0,
    progress: Progress = lambda *_: None,
) -> tuple[Compared, np.ndarray, np.ndarray]:
    """Measure every `every`-th held-out frame of a video, cropped at `size` pixels, against its reconstruction.

    Also returns `shown` evenly spaced frames and reconstructions, uint8 [n, R, R, 3]. Frames are processed in parts, so
    memory does not depend on the video's length. Raises UserError for a video without a face, or too short to hold out
    frames.
    """
    track = track_cached(path, lambda stage, done: progress(stage, done, 0))
    held = split(track)[1]
    rows = np.arange(held.start, held.stop, every)
    if not len(rows):
        raise UserError(f"{path}: the last tenth is measured, and {len(track.index)} usable frames have none; give 10")
    pick = np.unique(np.linspace(0, len(rows) - 1, shown).astype(int)) if shown else np.zeros(0, int)
    parts, kept = [], []
    for start in range(0, len(rows), STEP):
        video = align_video(path, track, size, rows=rows[start : start + STEP])
        frames = shrink(video.crops, domain.config.resolution)
        rebuilt = domain.render(domain.encode(frames))
        parts.append(Compared.measure(video, frames, rebuilt, reader))
        kept += [(frames[k - start], rebuilt[k - start]) for k in pick if start <= k < start + STEP]
        progress("reconstructions", min(start + STEP, len(rows)), len(rows))
    sides = [np.stack(side) for side in zip(*kept, strict=True)] if kept else [frames[:0], rebuilt[:0]]
    return Compared.joined(parts), sides[0], sides[1]


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
    """Return metrics and pictures of random subjects.

    training: uint8 [N, R, R, 3], the training frames. people: [P, 128], one descriptor per person.
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


def nearest_frames(pictures: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return for each uint8 picture [N, ...] the row of the nearest frame [M, ...], by squared pixel distance."""
    a = torch.from_numpy(pictures.reshape(len(pictures), -1)).float()
    b = torch.from_numpy(frames.reshape(len(frames), -1)).float()
    return torch.cdist(a, b).argmin(1).numpy()


def pairs_sheet(frames: np.ndarray, rebuilt: np.ndarray, columns: int = 12, rows: int = 4) -> np.ndarray:
    """Make a picture of evenly spaced frames, each above its reconstruction: uint8 [rows 2 R, columns R, 3]."""
    pick = np.linspace(0, len(frames) - 1, columns * rows).astype(int).reshape(rows, columns)
    lines = [np.concatenate(side[row], 1) for row in pick for side in (frames, rebuilt)]
    return np.concatenate(lines)


def as_facts(*figures: Reconstruction | RandomSubjects) -> dict[str, dict[str, float | None]]:
    """Round metrics to significant digits for domain.json, with None for NaN."""

    def fact(value: float) -> float | None:
        return None if math.isnan(value) else round(value, 4)

    return {type(f).__name__: {name: fact(value) for name, value in asdict(f).items()} for f in figures}
