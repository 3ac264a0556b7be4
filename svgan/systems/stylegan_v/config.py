"""The configuration of a StyleGAN-V run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from svgan.errors import UserError
from svgan.motion.acyclic import check_distance
from svgan.systems.stylegan_v.augment import FULL
from svgan.systems.stylegan_v.frame_times import SPANS
from svgan.training.config import RunConfig, whole_number


@dataclass(frozen=True, kw_only=True)
class StyleGANVConfig(RunConfig):
    """The configuration of StyleGAN-V: the fields of `RunConfig`, and those below.

    A clip is `frames` frames of a window of the footage. Its first and last frame are 2, 4, ... frames apart, at most
    window - 1. Pictures have the domain's resolution. `ema` is the decay of the generator's average; at the beginning
    it is lower, so that the average covers the last twentieth of the run so far. With one frame a clip the model is a
    StyleGAN2 of pictures, without time differences.

    Raises UserError naming the field.
    """

    system: ClassVar[str] = "stylegan-v"
    learns_from_frames: ClassVar[bool] = True
    paced: ClassVar[tuple[str, ...]] = (*RunConfig.paced, "frames", "channel_base", "channel_max", "joined", "r1_every")

    window: int = 33
    """Frames of the footage that a clip is drawn from."""

    beta1: float = 0.0
    beta2: float = 0.99
    frames: int = 3
    """Frames of a clip; 3 in the paper."""

    width: int
    """Width of all codes: z, w, the anchors' noise, u and v, which have 512 in the paper."""

    channel_base: int
    """A layer of r pixels has channel_base / r channels, at most channel_max."""

    channel_max: int
    """The largest number of channels of a layer."""

    mapping_layers: int = 2
    """Layers of the mapping from z to w."""

    distance: int = 16
    """Frames between anchors."""

    kernel: int = 11
    """Anchors per convolution."""

    joined: int = 16
    """Resolution in pixels at which the discriminator joins a clip's frames."""

    r1_gamma: float | None = None
    """Weight gamma of R1; null is the paper's, 0.0002 R^2 / batch."""

    r1_every: int = 16
    """R1 is added in every r1_every-th step, with r1_every times its weight."""

    augment_clips: int = FULL
    """Real clips over which ADA's probability can go from 0 to 1; 0 switches augmentation off."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("frames", self.frames, 1)
        whole_number("augment_clips", self.augment_clips, 0)
        for name in ("width", "channel_base", "channel_max", "mapping_layers", "distance", "kernel", "r1_every"):
            whole_number(name, getattr(self, name), 1)
        whole_number("joined", self.joined, 4)
        if self.r1_gamma is not None:
            self._set_number("r1_gamma")
        check_distance(self.distance)
        if self.width % 2:
            raise UserError(
                f"width: {self.width} is odd, but half of v are sines and half cosines; give an even number"
            )
        if self.channel_max < 2:
            raise UserError("channel_max: must be 2 or more, because a layer of the discriminator has half of it")
        if self.frames > SPANS[-1] + 1:
            raise UserError(f"frames: {self.frames}, but a clip spans at most {SPANS[-1]}; give 1, 2 or 3")
        least = 1 + next(span for span in SPANS if span >= self.frames - 1)
        if self.window < least:
            raise UserError(f"window: {self.window} frames cannot hold a clip of {self.frames}; give {least} or more")

    def r1_weight(self, resolution: int) -> float:
        """gamma of R1 for pictures of `resolution` pixels (released code, docs/papers.md#stylegan-v-training)."""
        return 0.0002 * resolution**2 / self.batch if self.r1_gamma is None else self.r1_gamma

    def check_suits(self, resolution: int) -> None:
        """Raise UserError if no discriminator can be made for pictures of `resolution` pixels."""
        if self.joined & (self.joined - 1) or self.joined >= resolution:
            raise UserError(
                f"joined: {self.joined} px, but frames of {resolution} px can be joined at 4, 8, ... below that; "
                f"give joined={resolution // 4}"
            )

    def channels(self, resolution: int) -> dict[int, int]:
        """Return the width of each layer for pictures of `resolution` pixels."""
        sides = [2**k for k in range(2, resolution.bit_length())]
        return {side: max(2, min(self.channel_max, self.channel_base // side)) for side in sides}
