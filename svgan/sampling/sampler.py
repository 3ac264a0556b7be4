"""Sample clips of any length from a trained generator.

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
    """A trained generator, its space, and its metadata (config, step, domain digest, fps).

    Codes are W+ codes [B, T, L, D], which a domain renders. A generator with its own renderer has codes [B, T, K] of
    that renderer. `render`, `render_own` and `wplus` treat both alike.

    The same arguments give the same clips, and a longer clip begins with the shorter one of the same seed. start, step:
    times of the frames, in frames of the footage (see `timed`). pictures: a domain that renders instead of the one that
    is passed (see `with_pictures`).
    """

    pictures: Domain | None = None

    def __init__(self, motion: Motion, space: Space, meta: dict[str, Any]):
        self.motion, self.space, self.meta = motion, space, meta
        self.start, self.step = 0.0, 1.0

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> Sampler:
        """Load the sampler from a checkpoint's folder. Raises UserError for anything else."""
        generator = load_generator(folder, device)
        return cls(generator.motion, generator.space, generator.meta)

    @classmethod
    def from_state(cls, state: State) -> Sampler:
        """Make a sampler of a running run's EMA generator, without copying it."""
        meta = state.meta | {"config": state.config.to_json(), "step": state.step}
        return cls(state.ema, state.space, meta)

    @torch.no_grad()
    def stream(
        self, clips: int, length: int, seed: int, *, truncation: float = 1.0, chunk: int = 64, part: slice = ALL
    ) -> Iterator[Tensor]:
        """Yield `codes` in chunks [B, <= chunk, L, D], in constant memory.

        part: return these clips only. They equal the same clips of the whole batch up to the last bit.
        """
        check_truncation(truncation)
        for codes in self._stream(clips, length, seed, chunk, part):
            own = self.renderer
            yield self.space.decode(codes * truncation) if own is None else own.truncated(codes, truncation)

    def codes(self, clips: int, length: int, seed: int, *, truncation: float = 1.0) -> Tensor:
        """Sample W+ codes [B, T, L, D]. truncation moves them towards the mean training code (StyleGAN's, in
        W+; ours).
        """
        return torch.cat(list(self.stream(clips, length, seed, truncation=truncation)), 1)

    @torch.no_grad()
    def coordinates(
        self, clips: int, length: int, seed: int, domain: Domain | None = None, space: Space | None = None
    ) -> Tensor:
        """Sample the same clips in the space's units, [B, T, K], as latent metrics compare them.

        domain: needed if it does not render the clips (see `wplus`). space: used instead of the generator's own.
        """
        if self.painter is None:
            return torch.cat(list(self._stream(clips, length, seed)), 1)
        assert domain is not None
        space = space or self.space
        pieces = (self.wplus(piece, domain).to(space.mean) for piece in self.stream(clips, length, seed))
        return torch.cat([space.encode(piece) for piece in pieces], 1)

    @property
    def renderer(self) -> RenderedMotion | None:
        """The generator's own renderer; None if a domain renders."""
        return self.motion if isinstance(self.motion, RenderedMotion) else None

    @property
    def painter(self) -> RenderedMotion | Domain | None:
        """The renderer that takes the place of a domain that is passed, if there is one."""
        return self.renderer or self.pictures

    def with_pictures(self, pictures: Domain) -> Sampler:
        """Return a sampler of the same clips, rendered by this domain.

        Judges of another domain, the footage's, then see its clips as they see those of a generator with its own
        renderer.
        """
        own = copy.copy(self)
        own.pictures = pictures
        return own

    def render(self, codes: Tensor | np.ndarray, domain: Domain) -> np.ndarray:
        """Render frames' codes [N, ...] as pictures uint8 [N, R, R, 3], by the sampler's own renderer or by the
        domain.
        """
        return (self.painter or domain).render(codes)

    def render_own(self, clip: Tensor) -> Tensor | np.ndarray:
        """Return pictures of a clip's codes [T, ...] if the sampler has its own renderer, else the W+ codes."""
        return clip if self.painter is None else self.painter.render(clip)

    def wplus(self, codes: Tensor, domain: Domain) -> Tensor:
        """Return clips' codes [B, T, ...] as W+ codes [B, T, L, D] of the domain.

        If the domain does not render the clips (ours), its encoder embeds their pictures. Metrics on codes then compare
        codes of the same kind as the footage's.
        """
        if self.painter is None:
            return codes
        found = domain.encode(self.painter.render(codes.flatten(0, 1)))
        return torch.from_numpy(found).unflatten(0, codes.shape[:2])

    def timed(self, fps: float | None = None, start: float = 0.0) -> Sampler:
        """Return a sampler of the same clips at `fps` frames a second, from `start` seconds on; meta's fps changes
        accordingly.

        fps: by default the footage's. Raises UserError for invalid times, and for times other than the footage's if the
        motion has no others.
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
                f"{flag}: {recipe} has {own:g} frames a second, from the first frame on; leave it out, or "
                "train a recipe with frames at any time (--recipe stylegan-v or stylegan-v-codes)"
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
