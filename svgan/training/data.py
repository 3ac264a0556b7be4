"""The material of a run: a domain and its codes of the footage, on request recorded frames and another domain.

Recorded frames replace renderings of the codes. Another domain's pictures can be trained to move like the footage.

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
from svgan.faces.original_frames import original_frames
from svgan.images.domain import Domain
from svgan.latents.manifest import Latents
from svgan.latents.recorded_frames import check_kept, open_recorded
from svgan.latents.shards import open_latents

BESIDE = "*"  # instead of videos: use the recorded frames stored beside the codes


@dataclass(frozen=True, kw_only=True)
class Material:
    """The material of a run.

    domain: the footage's domain, to which the codes `latents` belong. pictures: another domain, which renders generated
    clips; None: the same. videos: the recorded videos to learn from instead of renderings of the codes, or (BESIDE,).
    """

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
        """Open domain, latents, pictures and videos by their paths or URLs.

        latents: by default the domain's own. Raises UserError for material that cannot be read, or does not belong
        together.
        """
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
        """The recorded frames uint8 [N, R, R, 3], one per code; None if the run does not learn from them.

        Raises UserError if they are not the frames of the codes.
        """
        if not self.videos:
            return None
        if self.videos == (BESIDE,):
            return open_recorded(self.latents)
        return original_frames(self.latents, self.videos, self.domain)

    @property
    def rendering_domain(self) -> Domain:
        """The domain that renders generated clips, unless the generator has its own renderer."""
        return self.pictures or self.domain

    @property
    def meta(self) -> dict[str, Any]:
        """The metadata that checkpoints keep of the material."""
        codes = self.latents
        return {"domain": self.rendering_domain.digest, "latents": codes.digest, "fps": codes.manifest.fps}

    def check_pictures(self) -> None:
        """Raise UserError if the other domain's pictures cannot be judged, or if its W has another width."""
        assert self.pictures is not None
        self.domain.check_embeds()  # its encoder embeds the other domain's pictures for the judges
        ours, theirs = self.pictures.config.w_dim, self.domain.config.w_dim
        if ours != theirs:
            raise UserError(
                f"--pictures {self.pictures.folder}: its W has {ours} dimensions, that of the footage's domain "
                f"{theirs}; give two domains of the same width"
            )
