"""The training data of StyleGAN-V: clips of a few frames of the footage, and their times.

Axes: n clip, T frame of a clip, R pixels of the domain, K coordinate of the judges' space.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from svgan.images.domain import Domain
from svgan.images.frame_bank import FrameBank, kept_frames
from svgan.latents.clips import ClipSource
from svgan.latents.manifest import Latents
from svgan.latents.spaces import Space
from svgan.systems.stylegan_v.config import StyleGANVConfig
from svgan.systems.stylegan_v.frame_times import draw_times
from svgan.torch_utils import rng

JUDGED = 16  # frames of a window for the judges


class SparseClips:
    """Clips of config.frames frames, and `windows` of the footage's codes for the judges.

    space: the judges' space. originals: recorded crops uint8 [N, R, R, 3], one per code, used instead of renderings.
    Raises UserError for footage shorter than a window, and for a domain without an encoder, which the judges need.
    """

    def __init__(
        self,
        config: StyleGANVConfig,
        domain: Domain,
        latents: Latents,
        space: Space,
        device: torch.device,
        originals: np.ndarray | None = None,
    ):
        domain.check_embeds()
        self.space, self.window = space.to(device), min(JUDGED, config.window)
        self.span, self.count = config.window, config.frames
        self._starts = torch.from_numpy(latents.windows(config.window))
        self.codes = ClipSource(latents, self.window, self.space, device)
        if originals is None:
            originals = kept_frames(domain.to(device), latents.codes, latents.digest)
        self.frames = FrameBank(latents.codes, domain.generator, domain.config.resolution, device, originals)

    def draw(self, n: int, *, seed: int, step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
        """Return the rank's part of a global draw of n clips, a pure function of its arguments.

        frames [n / world, T, 3, R, R] in [-1, 1], and their times in frames, int64 [n / world, T]. Windows are uniform,
        with replacement.
        """
        generator, own = rng.generator("cpu", seed, step, "clips"), rng.own_slice(n, rank, world)
        picks = torch.randint(len(self._starts), (n,), generator=generator)[own]
        times = draw_times(n, self.span, generator, self.count)[own]
        return self.frames[self._starts[picks][:, None] + times], times.to(self.frames.device)

    def windows(self, n: int, seed: int) -> Tensor:
        """Return n windows [n, T, K] of the footage's codes."""
        return self.codes.windows(n, seed)
