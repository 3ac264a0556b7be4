"""Network features of clips: I3D's logits, Inception's features of a few frames, and face descriptors.

Clips are rendered once, a few at a time, for all features. Features of the real side are cached under the digest of
everything that determines them, so another file, domain or network is a cache miss.

Axes: n clip, T frame, P picture of a clip, F feature, S pixels.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from svgan.assets import cache
from svgan.errors import UserError
from svgan.io.atomic import disk_errors, write_whole
from svgan.metrics import fvd
from svgan.metrics.fvd import Clips, Progress, Reference, See, silent
from svgan.metrics.protocol import INCEPTION, Protocol
from svgan.metrics.windows import real_windows

if TYPE_CHECKING:
    from svgan.images.domain import Domain
    from svgan.latents.manifest import Latents

Kind = Literal["clips", "pictures", "faces", "arcface"]
Look = Callable[[Sequence[Kind], Clips, int, str, Progress], dict[Kind, np.ndarray]]
"""Extracts features of clips at a stage: in this process (`here`), or by many (sweeps.parallel.feature_pool)."""
FACE_CLIPS, FACE_FRAMES = 16, 8  # clips, and evenly spaced frames of each, whose faces are read; a frame takes 0.1 s


@dataclass(frozen=True)
class Extractor:
    """Extracts one kind of features.

    see: maps uint8 [b, T, S, S, 3] to [b, ...]. rule: names network and frames, for the cache. most: the most clips
    that it reads.
    """

    see: Callable[[np.ndarray], np.ndarray]
    rule: str
    most: int | None = None


def extractor(kind: Kind, protocol: Protocol, device: str | torch.device) -> Extractor:
    """Make the extractor with the real network, which is loaded on first use and fetched if it is not in the cache."""
    if kind == "clips":
        return Extractor(when_used(lambda: fvd.detector(protocol, device)), protocol.detector)
    if kind == "pictures":
        rule = f"{protocol.pictures} frames, {protocol.picture_detector}"
        return Extractor(when_used(lambda: _pictures(protocol, device)), rule)
    if kind == "arcface":
        raise UserError("--metrics arcface: no package has its weights; give your checkpoint as --arcface FILE")
    digest = cache.ASSETS["identity"].files[0].sha256[:12]
    return Extractor(when_used(_faces), f"{FACE_FRAMES} frames, dlib-resnet/{digest}", FACE_CLIPS)


def when_used(load: Callable[[], See]) -> See:
    """Return a function that calls `load` once, on first use."""
    loaded = functools.cache(load)
    return lambda clips: loaded()(clips)


def _faces() -> See:
    from svgan.metrics.identity import FaceReader

    reader = FaceReader()
    return lambda clips: np.stack([reader.read(evenly(clip, FACE_FRAMES)).descriptors for clip in clips])


def _pictures(protocol: Protocol, device: str | torch.device) -> See:
    from svgan.metrics import inception

    if protocol.picture_detector != INCEPTION:
        raise UserError(
            f"protocol {protocol.name}: picture_detector is {protocol.picture_detector}, the one here is {INCEPTION}"
        )
    network = inception.load(device)

    def see(clips: np.ndarray) -> np.ndarray:
        few = np.stack([evenly(clip, protocol.pictures) for clip in clips])
        found = network(torch.from_numpy(few.reshape(-1, *few.shape[2:])))
        return found.cpu().numpy().reshape(*few.shape[:2], -1)

    return see


def here(domain: Domain, protocol: Protocol, extractors: Mapping[Kind, Extractor], batch: int) -> Look:
    """Make a function that extracts features in this process."""

    def look(kinds: Sequence[Kind], clips: Clips, total: int, stage: str, progress: Progress) -> dict[Kind, np.ndarray]:
        wanted = {kind: extractors[kind] for kind in kinds}
        return extract(wanted, fvd.render_clips(domain, protocol, clips), total, stage, progress, batch)

    return look


def evenly(clip: np.ndarray, count: int) -> np.ndarray:
    """Select `count` evenly spaced frames of a clip [T, ...], including the first and the last."""
    return clip[np.linspace(0, len(clip) - 1, count).round().astype(int)]


def extract(
    extractors: Mapping[Kind, Extractor],
    clips: Iterable[np.ndarray],
    total: int,
    stage: str,
    progress: Progress = silent,
    batch: int = 2,
    first: int = 0,
) -> dict[Kind, np.ndarray]:
    """Extract the features of `total` clips uint8 [T, S, S, 3]: float32 [n, ...] by kind.

    first: the number of the first clip, for extractors that read only the first clips.
    """
    found: dict[Kind, list[np.ndarray]] = {kind: [] for kind in extractors}
    done = 0
    for some in fvd.batches(clips, batch):
        stacked = np.stack(some)
        for kind, one in extractors.items():
            left = len(some) if one.most is None else max(0, min(len(some), one.most - first - done))
            if left:
                found[kind].append(np.asarray(one.see(stacked[:left]), np.float32))
        done += len(some)
        progress(stage, done, total)
    return {kind: np.concatenate(parts) for kind, parts in found.items() if parts}


def real_features(
    kinds: Mapping[Kind, Extractor],
    protocol: Protocol,
    domain: Domain,
    latents: Latents,
    reference: Reference = "wplus",
    frames: np.ndarray | None = None,
    *,
    look: Look,
    progress: Progress = silent,
) -> dict[Kind, np.ndarray]:
    """Return features of a protocol's real windows, [n, ...] by kind, from the cache or by `look` (and then cached).

    A window that was drawn several times, as from short footage, occurs as often.
    """
    known: dict[Kind, np.ndarray] = {}
    missing: dict[int | None, list[Kind]] = {}
    places = {kind: _place(kind, one, protocol, domain, latents, reference) for kind, one in kinds.items()}
    for kind, one in kinds.items():
        kept = _load(places[kind])
        if kept is None:
            missing.setdefault(one.most, []).append(kind)
        else:
            known[kind] = kept
    for most, some in missing.items():
        windows = real_windows(protocol, latents)
        if most is not None:
            windows = windows[:most]
        windows, inverse = np.unique(windows, axis=0, return_inverse=True)
        source = latents.codes if reference == "wplus" else fvd.checked(frames, domain, latents)
        clips = (source[rows] for rows in windows)
        for kind, found in look(some, clips, len(windows), f"real clips, {reference}", progress).items():
            known[kind] = found[inverse.reshape(-1)]
            _save(places[kind], known[kind])
    return known


def _place(
    kind: Kind, one: Extractor, protocol: Protocol, domain: Domain, latents: Latents, reference: Reference
) -> Path:
    decides = [kind, one.rule, one.most, protocol.real_hash, latents.digest, domain.digest]
    digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    return cache.cache_folder() / "features" / f"{reference}-{kind}-{digest}.safetensors"


def _save(path: Path, features: np.ndarray) -> None:
    from safetensors.numpy import save_file

    with disk_errors(path), write_whole(path) as aside:
        save_file({"features": np.ascontiguousarray(features)}, aside)


def _load(path: Path) -> np.ndarray | None:
    """Load cached features; None if the file is missing or damaged, so that it is made again."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)["features"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
