"""The training data of MoCoGAN-HD: clips of real frames, and the frozen generator that renders generated ones.

Axes: N frame, n clip, T frame of a clip, S pixels of the critics' frames, L W+ layer, D width of W.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.images.frame_bank import FrameBank
from svgan.images.stylegan2 import Generator
from svgan.latents.clips import ClipSource
from svgan.latents.manifest import Latents
from svgan.latents.spaces import Space, picture_space
from svgan.systems.mocogan_hd.config import MoCoConfig
from svgan.torch_utils import rng

AT_ONCE = 2**21  # pixels rendered together: gradients of 2 pictures of 1024 px take 4 GB (bench/activations.py)


class Renderer:
    """Render codes with a frozen generator as frames average-pooled to S pixels; all frames share its noise maps.

    batch: frames rendered together; fewer if pictures are large. Raises UserError if S does not divide the generator's
    resolution.
    """

    def __init__(self, generator: Generator, size: int, batch: int):
        resolution = generator.config.resolution
        if resolution % size:
            raise UserError(f"critic_size: {size} does not divide the domain's {resolution} pixels; give a divisor")
        self.generator, self.size = generator, size
        self.batch = min(batch, max(1, AT_ONCE // resolution**2))

    def __call__(self, codes: Tensor) -> Tensor:
        """Render W+ codes [N, L, D] as frames [N, 3, S, S] within [-1, 1].

        With gradients and more than one batch, each batch is rendered again in the backward pass, so memory is that of
        one batch.
        """
        parts = codes.split(self.batch)
        again = len(parts) > 1 and codes.requires_grad and torch.is_grad_enabled()
        if again:
            made = [checkpoint(self.pictures, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        else:
            made = [self.pictures(part) for part in parts]
        return torch.cat(made)

    def pictures(self, codes: Tensor) -> Tensor:
        whole = self.generator(codes, "const").float().clamp(-1, 1)
        return F.avg_pool2d(whole, whole.shape[-1] // self.size)


class FrameSource:
    """Clips of the footage's frames, and `windows` of its codes for the judges, at the speed of sampled clips.

    space: the space of the motion's codes. originals: recorded crops uint8 [N, R, R, 3], one per code, used instead of
    renderings. footage: the domain of `latents`, which renders them, if another domain's pictures shall move like the
    footage. Judges then compare in `judged`, the footage's principal coordinates; else `judged` is the motion's own
    space.

    Raises UserError if a clip is longer than every run of frames, if originals are not those of the codes, and for the
    paper's contrastive loss with a batch of one.
    """

    def __init__(
        self,
        config: MoCoConfig,
        domain: Domain,
        latents: Latents,
        space: Space,
        device: torch.device | str = "cpu",
        originals: np.ndarray | None = None,
        footage: Domain | None = None,
    ):
        if config.form == "paper" and config.contrastive_weight > 0 and config.batch < 2:
            raise UserError("batch: the contrastive loss needs 2 clips; give 2 or more, or contrastive_weight 0")
        self._contrasted = config.form == "paper" and config.contrastive_weight > 0
        self.window, self.space, self.latents = config.window, space.to(device), latents
        self.device = torch.device(device)
        self.stride = config.stride
        self.judged = self.space
        if footage is not None:
            self.judged = picture_space(latents, footage.config.resolution).to(self.device)
        try:
            self._starts = torch.from_numpy(latents.windows(config.span))
            self.codes = ClipSource(latents, (self.window - 1) * self.stride + 1, self.judged, self.device)
        except UserError as error:
            raise UserError(f"{config.window} frames, time_step {config.time_step}: {error}") from error
        self.render = Renderer(domain.generator.to(self.device), config.critic_size, config.render_batch)
        self._steps = config.time_step * torch.arange(config.window)
        real = self.render
        if footage is not None:
            real = Renderer(footage.generator.to(self.device), config.critic_size, config.render_batch)
        self.frames = FrameBank(latents.codes, real, config.critic_size, self.device, originals)

    def draw(self, n: int, *, seed: int, step: int, stream: int = 0, rank: int = 0, world: int = 1) -> Tensor:
        """Return the rank's part [n / world, T, 3, S, S], in [-1, 1], of a global draw of n clips.

        Clips are uniform, with replacement. The draw is a pure function of its arguments.
        """
        own = rng.own_slice(n, rank, world)
        if self._contrasted and n == world > 1:
            raise UserError(
                f"batch: {n} clips for {world} workers are one each, but the contrastive loss needs 2; give a batch of "
                f"{2 * world} or more, or contrastive_weight 0"
            )
        generator = rng.generator("cpu", seed, step, stream, "frames")
        picks = torch.randint(len(self._starts), (n,), generator=generator)[own]
        return self.frames[self._starts[picks][:, None] + self._steps]

    def windows(self, n: int, seed: int) -> Tensor:
        """Return n windows of the footage's codes [n, T, K] in `judged`'s units, at the frame distance of sampled
        clips.
        """
        return self.codes.windows(n, seed)[:, :: self.stride]
