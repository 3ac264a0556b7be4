"""The frames that a protocol scores: real windows of the footage, and parts of generated rollouts.

Axes: n clip, T frame, L W+ layer, D width of W, R pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from svgan.errors import UserError
from svgan.metrics.protocol import LEAST_REAL, PROTOCOLS, Protocol
from svgan.torch_utils import rng

if TYPE_CHECKING:
    from svgan.latents.manifest import Latents
    from svgan.metrics.clip_model import ClipModel

# A rollout is cut from a stream of at least this many frames. Its chunks, and so every bit, are then the same whether
# one protocol is measured or several.
STREAMED = max(PROTOCOLS[name].rollout for name in ("svg-short", "svg-long"))
CHUNK = 25
GROUP = 64  # clips whose codes are in memory together


def real_windows(protocol: Protocol, latents: Latents) -> np.ndarray:
    """Rows [n, frames] of the real windows, with n at most real_clips; starts are distinct if there are enough.

    Raises UserError if footage is too short, or has too few videos for a protocol of one clip per video.
    """
    starts = latents.windows(protocol.span)
    generator = rng.generator("cpu", protocol.seed, protocol.real_clips, "real windows")
    if protocol.per_video is not None:
        check_real(protocol, latents)
        starts = _one_a_video(protocol, latents, starts, generator)
    elif len(starts) >= protocol.real_clips:
        starts = starts[torch.randperm(len(starts), generator=generator)[: protocol.real_clips].numpy()]
    else:
        starts = starts[torch.randint(len(starts), (protocol.real_clips,), generator=generator).numpy()]
    return starts[:, None] + np.arange(0, protocol.span, protocol.stride)


def _one_a_video(protocol: Protocol, latents: Latents, starts: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Draw a start in each of the first real_clips videos that are long enough, uniform over the video's starts."""
    chosen = _long_enough(protocol, latents)[: protocol.real_clips]
    places = torch.rand(len(chosen), generator=generator, dtype=torch.float64).numpy()
    own = [starts[latents.video[starts] == video] for video in chosen]
    return np.array([some[int(place * len(some))] for some, place in zip(own, places, strict=True)])


def _long_enough(protocol: Protocol, latents: Latents) -> np.ndarray:
    """The videos, in their order, that have a run of frames * stride frames."""
    return np.unique(latents.video[latents.windows(protocol.frames * protocol.stride)])


def real_count(protocol: Protocol, latents: Latents) -> int:
    """The number of real clips: videos that are long enough if one clip is taken of each, else non-overlapping
    clips.
    """
    if protocol.per_video is not None:
        return min(len(_long_enough(protocol, latents)), protocol.real_clips)
    starts = latents.windows(protocol.span)
    runs = np.split(starts, np.flatnonzero(np.diff(starts) != 1) + 1)
    return sum(-(-len(run) // protocol.span) for run in runs)


def check_real(protocol: Protocol, latents: Latents) -> None:
    """Raise UserError if the footage has fewer than LEAST_REAL real clips."""
    count = real_count(protocol, latents)
    if count >= LEAST_REAL:
        return
    kind, remedy = f"clips of {protocol.span} frames that do not overlap", "embed longer footage"
    if protocol.per_video is not None:
        kind = f"videos of {protocol.frames * protocol.stride} frames or more, and it takes one clip of each"
        remedy = "embed more videos, or take svg-short or svg-long"
    raise UserError(
        f"protocol {protocol.name}: {count} real clips, needs {LEAST_REAL}; {latents.uri} has {count} {kind}; {remedy}"
    )


def rollouts(sampler: ClipModel, protocols: dict[str, Protocol], seed: int) -> Iterator[dict[str, Tensor]]:
    """Yield the scored frames' codes [<= GROUP, T, L, D] for each protocol, in groups of clips.

    All are cut from one rollout of the longest protocol; the protocols must have equally many clips. A longer clip
    begins with the shorter one of the same seed, so each protocol gets the same frames as alone. Other frames are
    generated and dropped. Raises UserError for codes that are NaN or infinite.
    """
    clips = next(iter(protocols.values())).clips
    for start in range(0, clips, GROUP):
        yield _group(sampler, protocols, seed, slice(start, min(start + GROUP, clips)))


def _group(sampler: ClipModel, protocols: dict[str, Protocol], seed: int, part: slice) -> dict[str, Tensor]:
    first = next(iter(protocols.values()))
    longest = max(p.rollout for p in protocols.values())
    wanted = {k: range(p.rollout - p.span, p.rollout, p.stride) for k, p in protocols.items()}
    kept: dict[str, list[Tensor]] = {k: [] for k in protocols}
    done = 0
    for chunk in sampler.stream(first.clips, max(longest, STREAMED), seed, chunk=CHUNK, part=part):
        if not torch.isfinite(chunk).all():
            raise UserError(
                f"generated codes are NaN or infinite by frame {done + chunk.shape[1]}: the generator has diverged; "
                "give an earlier checkpoint, or train again with a lower lr"
            )
        for kind, rows in wanted.items():
            inside = [row - done for row in rows if done <= row < done + chunk.shape[1]]
            kept[kind].append(chunk[:, inside].cpu())
        done += chunk.shape[1]
        if done >= longest:
            break
    return {k: torch.cat(parts, 1) for k, parts in kept.items()}


def resize(clip: np.ndarray, size: int | None) -> np.ndarray:
    """Resize uint8 [T, R, R, 3] to [T, size, size, 3]; None leaves it.

    Block means if size divides R, as MoCoGAN-HD pools; else bilinear, antialiased when shrinking.
    """
    if size is None or clip.shape[1] == size:
        return clip
    x = torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2).float()
    if x.shape[-1] % size == 0:
        x = F.avg_pool2d(x, x.shape[-1] // size)
    else:
        x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=x.shape[-1] > size)
    return x.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
