"""Clips of any length from a trained generator.

Axes: B clip, T frame, L W+ layer, D width of W, K width of the space.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.latents.spaces import Space
from svgan.motion import ContinuousMotion, Motion, RenderedMotion
from svgan.motion.noise import ALL
from svgan.torch_utils import rng
from svgan.training.checkpoint import load_generator
from svgan.training.state import State

if TYPE_CHECKING:
    from svgan.images.domain import Domain


class Sampler:
    """A generator, the space it works in, and what is known of it (config, step, domain digest, fps).

    Its codes are W+'s [B, T, L, D], which a domain renders; of a generator with a renderer of its own they are that
    one's [B, T, K]. `render`, `render_own` and `wplus` are the same for both.

    Same arguments, same clips; a longer clip begins with the shorter one of the same seed.
    start, step: when frames are, in frames of the footage (see `timed`). pictures: a domain that renders in place of
    the one that is given (see `with_pictures`).
    """

    pictures: Domain | None = None

    def __init__(self, motion: Motion, space: Space, meta: dict[str, Any]):
        self.motion, self.space, self.meta = motion, space, meta
        self.start, self.step = 0.0, 1.0

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Sampler:
        """From a checkpoint's folder. Raises UserError for anything else."""
        generator = load_generator(folder, device)
        return cls(generator.motion, generator.space, generator.meta)

    @classmethod
    def from_state(cls, state: State) -> Sampler:
        """The EMA generator of a run in progress, not a copy."""
        meta = state.meta | {"config": state.config.to_json(), "step": state.step}
        return cls(state.ema, state.space, meta)

    @torch.no_grad()
    def stream(
        self, clips: int, length: int, seed: int, *, truncation: float = 1.0, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        """`codes` in pieces [B, <= chunk, L, D], in constant memory; of the clips in `part` alone, which are then the
        same but for the last bit."""
        check_truncation(truncation)
        for codes in self._stream(clips, length, seed, chunk, part):
            own = self.renderer
            yield self.space.decode(codes * truncation) if own is None else own.truncated(codes, truncation)

    def codes(self, clips: int, length: int, seed: int, *, truncation: float = 1.0) -> Tensor:
        """W+ codes [B, T, L, D]. truncation pulls them towards the training codes' mean (StyleGAN's, in W+; ours)."""
        return torch.cat(list(self.stream(clips, length, seed, truncation=truncation)), 1)

    @torch.no_grad()
    def coordinates(
        self, clips: int, length: int, seed: int, domain: Domain | None = None, space: Space | None = None
    ) -> Tensor:
        """The same clips in the space's units, [B, T, K]: what latent metrics compare. domain: needed where it does not
        render (`wplus`); space: in place of the generator's own."""
        if self.painter is None:
            return torch.cat(list(self._stream(clips, length, seed)), 1)
        assert domain is not None
        space = space or self.space
        pieces = (self.wplus(piece, domain).to(space.mean) for piece in self.stream(clips, length, seed))
        return torch.cat([space.encode(piece) for piece in pieces], 1)

    @property
    def renderer(self) -> RenderedMotion | None:
        """The generator's own; None where a domain renders."""
        return self.motion if isinstance(self.motion, RenderedMotion) else None

    @property
    def painter(self) -> RenderedMotion | Domain | None:
        """Who renders in place of a domain that is given."""
        return self.renderer or self.pictures

    def with_pictures(self, pictures: Domain) -> Sampler:
        """The same clips, whose pictures are that domain's: judges who know another domain, the footage's, then see
        them as they see those of a generator with a renderer of its own."""
        own = copy.copy(self)
        own.pictures = pictures
        return own

    def render(self, codes: Tensor | np.ndarray, domain: Domain) -> np.ndarray:
        """Frames' codes [N, ...] to pictures uint8 [N, R, R, 3], by the generator's own renderer or by the domain."""
        return (self.painter or domain).render(codes)

    def render_own(self, clip: Tensor) -> Tensor | np.ndarray:
        """Pictures of a clip's codes [T, ...] where a domain that is given does not render them; else its W+ codes."""
        return clip if self.painter is None else self.painter.render(clip)

    def wplus(self, codes: Tensor, domain: Domain) -> Tensor:
        """Clips' codes [B, T, ...] in the domain's W+, [B, T, L, D]. Where it does not render (ours): what its encoder
        reads in the pictures, so that measures on codes are of the same codes as the footage's."""
        if self.painter is None:
            return codes
        found = domain.encode(self.painter.render(codes.flatten(0, 1)))
        return torch.from_numpy(found).unflatten(0, codes.shape[:2])

    def timed(self, fps: float | None = None, start: float = 0.0) -> Sampler:
        """The same clips at `fps` frames a second (the footage's), from `start` seconds on; meta's fps is then that.

        Raises UserError for times that are none, and for others than the footage's of a motion that has no others.
        """
        own = float(self.meta.get("fps", 25.0))
        fps = own if fps is None else fps
        if not (math.isfinite(fps) and fps > 0):
            raise UserError(f"--fps {fps:g}: must be above 0")
        if not (math.isfinite(start) and start >= 0):
            raise UserError(f"--start {start:g}: must be 0 seconds or more")
        if (fps, start) != (own, 0) and not isinstance(self.motion, ContinuousMotion):
            flag = f"--start {start:g}" if fps == own else f"--fps {fps:g}"
            recipe = self.meta.get("config", {}).get("recipe", "this model")
            raise UserError(
                f"{flag}: {recipe} goes from frame to frame, {own:g} a second from the first on; leave it out, or "
                "train what has frames at any time (--recipe stylegan-v or stylegan-v-codes)"
            )
        timed = copy.copy(self)
        timed.start, timed.step, timed.meta = start * own, own / fps, self.meta | {"fps": fps}
        return timed

    def _stream(self, clips: int, length: int, seed: int, chunk: int = 64, part: slice = ALL) -> Iterator[Tensor]:
        generator = rng.generator(self.space.mean.device, seed, "sample")
        if isinstance(self.motion, ContinuousMotion):
            return self.motion.stream(clips, length, generator, chunk, part, start=self.start, step=self.step)
        return self.motion.stream(clips, length, generator, chunk, part)


def check_truncation(truncation: float) -> None:
    if not 0 < truncation <= 1:
        raise UserError(f"truncation: must be above 0 and at most 1 (1 = none), got {truncation}")
