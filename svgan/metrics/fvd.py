"""FVD (Unterthiner et al. 2018, arXiv:1812.01717): the Fréchet distance between I3D features of clips.

There are two references, as in StyleVideoGAN's Table 1 (docs/papers.md#stylevideogan-results). 'wplus' is the footage
after embedding and re-rendering; it measures the motion model alone. 'original' is the recorded, aligned frames; it
adds the error of the embedding.

The real side depends on footage, domain and protocol only, so its moments are computed once. A domain ships those of
its own footage; others are kept in the cache.

Axes: n clip, T frame, N frame of the footage, L W+ layer, D width of W, R pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from svgan.assets import cache
from svgan.errors import UserError
from svgan.metrics import i3d
from svgan.metrics.frechet import frechet_distance
from svgan.metrics.moments import Moments
from svgan.metrics.protocol import PROTOCOLS, REAL_FIELDS, Protocol, usual_precision
from svgan.metrics.windows import real_windows, resize

if TYPE_CHECKING:
    from svgan.images.domain import Domain
    from svgan.latents.manifest import Latents

Reference = Literal["wplus", "original"]
Progress = Callable[[str, int, int], None]  # stage, clips done, clips in total
See = Callable[[np.ndarray], np.ndarray]  # clips uint8 [b, T, S, S, 3] to features [b, F]
Clips = Iterable[np.ndarray | Tensor]  # each as codes [T, L, D], or as pictures uint8 [T, R, R, 3]
Logits = Callable[[Clips, int, str, Progress], np.ndarray]  # clips, their number, stage and progress to [n, 400]
REFERENCES: tuple[Reference, ...] = ("wplus", "original")
DETECTOR = PROTOCOLS["svg-short"].detector
BATCH = {"cpu": 2, "cuda": 32}


def silent(stage: str, done: int, total: int) -> None:
    """A progress function that prints nothing."""


def moments_file(protocol: Protocol, domain: Domain, latents: Latents, reference: Reference) -> str:
    """Return the file name of real moments; it contains everything that determines them."""
    return f"{reference}-{protocol.real_hash}-{_source(domain, latents)}.safetensors"


def _source(domain: Domain, latents: Latents) -> str:
    return hashlib.sha256(f"{latents.digest} {domain.digest}".encode()).hexdigest()[:12]


def find_moments(protocol: Protocol, domain: Domain, latents: Latents, reference: Reference) -> Moments | None:
    """Load real moments that the domain ships or the cache has; None if they have yet to be computed."""
    name = moments_file(protocol, domain, latents, reference)
    for folder in (domain.moments_folder, _cache()):
        if (folder / name).exists():
            return Moments.load(folder / name)
    return None


def real_moments(
    protocol: Protocol,
    domain: Domain,
    latents: Latents,
    reference: Reference = "wplus",
    frames: np.ndarray | None = None,
    *,
    folder: Path | None = None,
    device: str | torch.device | None = None,
    logits: Logits | None = None,
    progress: Progress = silent,
) -> Moments:
    """Return moments of I3D features of the real windows; if none are found, compute and keep them in `folder`.

    folder: by default the cache. logits: extracts the features, instead of the protocol's network on `device`. frames:
    uint8 [N, R, R, 3], the aligned footage, one per row of latents; needed to compute 'original'.

    Short footage has fewer windows than a protocol draws. Each window passes the network once, and counts as often as
    it was drawn. Raises UserError if frames are needed, but missing or of another shape.
    """
    name = moments_file(protocol, domain, latents, reference)
    found = find_moments(protocol, domain, latents, reference)
    if found is not None and (folder is None or (folder / name).exists()):
        return found
    windows, counts = np.unique(real_windows(protocol, latents), axis=0, return_counts=True)
    source = latents.codes if reference == "wplus" else checked(frames, domain, latents)
    batch = batch_of(torch.device(device or domain.device))
    if logits is None:
        see = detector(protocol, device or domain.device)

        def logits(clips: Clips, total: int, stage: str, progress: Progress) -> np.ndarray:
            return seen(see, render_clips(domain, protocol, clips), total, stage, progress, batch)

    found_logits = logits((source[rows] for rows in windows), len(windows), f"real clips, {reference}", progress)
    moments = moments_of(found_logits, batch, counts)
    moments.facts = {
        "reference": reference,
        "protocol": {k: v for k, v in protocol.to_json().items() if k in REAL_FIELDS},
        "domain": domain.digest,
        "latents": latents.digest,
    }
    kept = (folder or _cache()) / name
    moments.save(kept, "float32")
    return Moments.load(kept)  # read back, so that all later uses have the same digits


def ship(
    domain: Domain,
    latents: Latents,
    frames: np.ndarray,
    *,
    protocol: Protocol = PROTOCOLS["svg-short"],
    precisions: tuple[i3d.Precision, ...] = (),
    progress: Progress = silent,
) -> None:
    """Write the real moments of a domain's own footage into its folder, for both references and each precision.

    precisions: by default the usual one on the domain's device. A machine of another precision can compute 'wplus'
    itself, but not 'original'. So a domain for everyone, such as the package's, gets both precisions. Existing moments
    stay; those of other weights or codes are deleted. svg-long has the same real side as svg-short, so one protocol
    serves both. On whole footage this takes minutes.
    """
    for precision in precisions or (usual_precision(str(domain.device)),):
        at = protocol.with_precision(precision)
        for reference in REFERENCES:
            real_moments(at, domain, latents, reference, frames, folder=domain.moments_folder, progress=progress)
    for file in domain.moments_folder.glob("*.safetensors"):
        if not file.name.endswith(f"-{_source(domain, latents)}.safetensors"):
            file.unlink()


def distance(protocol: Protocol, real: Moments, fake: Moments) -> float:
    """The Fréchet distance with the protocol's covariance."""
    rule = protocol.covariance
    return frechet_distance(real.mean, real.covariance(rule), fake.mean, fake.covariance(rule))


def render_clips(domain: Domain, protocol: Protocol, clips: Clips) -> Iterator[np.ndarray]:
    """Yield clips as pictures uint8 [T, S, S, 3] of the protocol's size S; codes are rendered."""
    for clip in clips:
        pictures = clip if isinstance(clip, np.ndarray) and clip.dtype == np.uint8 else domain.render(clip)
        yield resize(pictures, protocol.image_size)


def seen(
    see: See,
    clips: Iterable[np.ndarray],
    total: int,
    stage: str,
    progress: Progress = silent,
    batch: int = BATCH["cpu"],
) -> np.ndarray:
    """Extract features [n, F] of clips, each uint8 [T, R, R, 3], a few at a time."""
    parts, done = [], 0
    for some in batches(clips, batch):
        parts.append(see(np.stack(some)))
        done += len(some)
        progress(stage, done, total)
    return np.concatenate(parts)


def moments_of(features: np.ndarray, batch: int, counts: np.ndarray | None = None) -> Moments:
    """Compute moments of features [n, F]; a clip counts `counts` [n] times.

    Features are added in the network's batches, so that every digit equals that of a run.
    """
    moments = Moments(features.shape[1])
    for start in range(0, len(features), batch):
        rows = slice(start, start + batch)
        moments.update(features[rows] if counts is None else np.repeat(features[rows], counts[rows], axis=0))
    return moments


def batches(items: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    """Yield the items in lists of `size`; the last list has the remainder."""
    batch: list[np.ndarray] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def detector(protocol: Protocol, device: str | torch.device) -> See:
    """Load the protocol's network. Raises UserError if it names another than the existing one."""
    if protocol.detector != DETECTOR:
        raise UserError(
            f"protocol {protocol.name}: its detector is {protocol.detector}, the one here is {DETECTOR}; figures of "
            "another detector cannot be made again with this svgan"
        )
    return seeing(i3d.load(device=device, precision=protocol.precision))


def seeing(network: i3d.I3D) -> See:
    """Wrap the network as a function of arrays."""
    return lambda clips: network(torch.from_numpy(clips)).cpu().numpy()


def batch_of(device: torch.device) -> int:
    """Clips per call of I3D."""
    return BATCH.get(device.type, BATCH["cpu"])


def _cache() -> Path:
    return cache.cache_folder() / "moments"


def checked(frames: np.ndarray | None, domain: Domain, latents: Latents) -> np.ndarray:
    """Return the recorded frames. Raises UserError if there are none, or if they do not fit the codes."""
    expected = (len(latents.codes), *(domain.config.resolution,) * 2, 3)
    if frames is None:
        raise UserError(
            "fvd against 'original' needs the aligned frames that the codes were made from; fetch the footage with "
            "`svgan assets talking-face` and embed it again with `svgan embed`, or score against 'wplus'"
        )
    if frames.shape != expected or frames.dtype != np.uint8:
        raise UserError(f"frames: {frames.dtype} {frames.shape}, needs uint8 {expected}, a row per code of the latents")
    return frames
