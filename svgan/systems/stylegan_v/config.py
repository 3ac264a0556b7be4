"""What a run of StyleGAN-V is."""

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
    """StyleGAN-V, a generator of clips trained with its renderer; beside what every run has:

    A clip is `frames` frames of a window of the footage, first and last 2, 4, ... frames apart, at most window - 1. Its
    pictures are as large as the domain's; a layer of r pixels has channel_base / r channels, at most channel_max.
    width: of z, w, the anchors' noise, u and v, which are all 512 in the paper. mapping_layers: of z to w. distance,
    kernel: anchors' distance in frames, and how many a convolution sees. joined: pixels at which the discriminator puts
    a clip's frames together. r1_gamma: R1's weight in every r1_every-th step, r1_every times as heavy there; None is
    the paper's, 0.0002 R^2 / batch. augment_clips: real clips over which ADA's probability may go from 0 to 1; 0 is
    without it. ema: the average's decay, less in the beginning, when the last twentieth of the run is all it holds.
    With one frame a clip it is a StyleGAN2 of pictures: no times are told apart.

    Raises UserError naming the field.
    """

    system: ClassVar[str] = "stylegan-v"
    learns_from_frames: ClassVar[bool] = True
    paced: ClassVar[tuple[str, ...]] = (*RunConfig.paced, "frames", "channel_base", "channel_max", "joined", "r1_every")

    window: int = 33
    beta1: float = 0.0
    beta2: float = 0.99
    frames: int = 3
    width: int
    channel_base: int
    channel_max: int
    mapping_layers: int = 2
    distance: int = 16
    kernel: int = 11
    joined: int = 16
    r1_gamma: float | None = None
    r1_every: int = 16
    augment_clips: int = FULL

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
            raise UserError(f"width: {self.width} is odd, and half of v are sines, half cosines; give an even number")
        if self.channel_max < 2:
            raise UserError("channel_max: must be 2 or more, for a layer of the discriminator has half of it")
        if self.frames > SPANS[-1] + 1:
            raise UserError(f"frames: {self.frames} of a clip, which spans {SPANS[-1]} at most; give 1, 2 or 3")
        least = 1 + next(span for span in SPANS if span >= self.frames - 1)
        if self.window < least:
            raise UserError(
                f"window: {self.window} frames have no room for {self.frames} of them; give {least} or more"
            )

    def r1_weight(self, resolution: int) -> float:
        """gamma for pictures of `resolution` pixels (systems.md 3.4)."""
        return 0.0002 * resolution**2 / self.batch if self.r1_gamma is None else self.r1_gamma

    def check_suits(self, resolution: int) -> None:
        """Raises UserError for pictures that the discriminator cannot be made for."""
        if self.joined & (self.joined - 1) or self.joined >= resolution:
            raise UserError(
                f"joined: {self.joined} px, but frames of {resolution} px are put together at 4, 8, ... below that; "
                f"give joined={resolution // 4}"
            )

    def channels(self, resolution: int) -> dict[int, int]:
        """Width of each layer of pictures of `resolution` pixels."""
        sides = [2**k for k in range(2, resolution.bit_length())]
        return {side: max(2, min(self.channel_max, self.channel_base // side)) for side in sides}
