"""What a run learns from: a domain's codes of footage, the recorded frames behind them where they are asked for, and
another domain whose pictures are to move, where there is one.

Axes: N frame of the footage, R pixels of the domain, T frame of a clip, K coordinate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.manifest import Latents
from svgan.latents.recorded_frames import check_kept, open_recorded
from svgan.latents.shards import open_latents

BESIDE = "*"  # in place of videos: the recorded frames that are kept beside the codes


@dataclass(frozen=True, kw_only=True)
class Material:
    """domain: the footage's, whose codes `latents` are. pictures: another one, which shows what is generated; None: the
    same. videos: those behind the codes, or (BESIDE,), where recorded frames are learned from, and not what the codes
    render."""

    domain: Domain
    latents: Latents
    pictures: Domain | None = None
    videos: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        domain: str | Path = "default",
        latents: str | None = None,
        device: torch.device | str = "cpu",
        *,
        pictures: str | None = None,
        videos: Sequence[str] = (),
    ) -> Material:
        """From the places of all of them; of latents the domain's own are usual. Raises UserError for what cannot be
        read, or does not belong together."""
        footage = Domain.load(domain, device)
        codes = open_latents(latents or footage.latents_uri, domain=footage.digest)
        if tuple(videos) == (BESIDE,):
            check_kept(codes)
        return cls(
            domain=footage,
            latents=codes,
            pictures=Domain.load(pictures, device) if pictures else None,
            videos=tuple(videos),
        )

    @cached_property
    def recorded(self) -> np.ndarray | None:
        """The recorded frames uint8 [N, R, R, 3], a row per code; None where they are not asked for. Raises UserError
        where they are not those of the codes."""
        from svgan.faces.original_frames import original_frames

        if not self.videos:
            return None
        if self.videos == (BESIDE,):
            return open_recorded(self.latents)
        return original_frames(self.latents, self.videos, self.domain)

    @property
    def shown(self) -> Domain:
        """Whose pictures are generated, where the generator does not make its own."""
        return self.pictures or self.domain

    @property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint remembers of it."""
        return {"domain": self.shown.digest, "latents": self.latents.digest, "fps": self.latents.manifest.fps}

    def check_pictures(self) -> None:
        """Raises UserError where the other domain's pictures cannot be judged, or are of a W of another width."""
        assert self.pictures is not None
        self.domain.check_embeds()  # by its encoder the judges see the other's pictures
        ours, theirs = self.pictures.config.w_dim, self.domain.config.w_dim
        if ours != theirs:
            raise UserError(
                f"--pictures {self.pictures.folder}: its W has {ours} dimensions, that of the footage's domain "
                f"{theirs}; give two domains of the same width"
            )
