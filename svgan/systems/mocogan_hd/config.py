"""The configuration of a MoCoGAN-HD run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from svgan.errors import UserError
from svgan.training.config import RunConfig, one_of, whole_number

MODES = ("in-domain", "cross-domain")
FORMS = ("code", "paper")
WEIGHTS = ("video_weight", "image_weight", "information_weight", "gp_weight", "matching_weight", "contrastive_weight")


@dataclass(frozen=True, kw_only=True)
class MoCoConfig(RunConfig):
    """The configuration of MoCoGAN-HD: the fields of `RunConfig`, and those below.

    A step is one step of the critics and `n_generator` steps of the generator on the same real clips. A loss weight of
    0 removes its term alone. F is the embedding head of the image critic, H the network of the mutual information.

    Raises UserError naming the field.
    """

    system: ClassVar[str] = "mocogan-hd"
    learns_from_frames: ClassVar[bool] = True
    paced: ClassVar[tuple[str, ...]] = (*RunConfig.paced, "mode", "form", "n_generator", "critic_size")

    window: int = 16
    """Frames of a clip; every `time_step`th frame of the footage is taken."""

    form: Literal["code", "paper"] = "code"
    """The formulas to use where released code and paper differ: 'code' or 'paper'.

    'paper' needs mode 'cross-domain'. Its losses are logistic, the residual is Eq. 2, H reads h_t only, and the
    contrastive loss is within the batch, without a queue.
    """

    mode: Literal["in-domain", "cross-domain"] = "in-domain"
    """What the image critic sees.

    'in-domain': pairs of a first and a later frame, against pairs of the footage, with RaLSGAN. 'cross-domain': single
    frames, a clip's own first frame being real, with hinge losses and a contrastive loss.
    """

    time_step: int = 2
    """Distance between two frames of a clip, in frames of the footage."""

    half_speed: bool = True
    """Whether sampled clips get the means of neighbouring codes between their frames."""

    n_generator: int = 5
    """Generator steps per critic step."""

    memory: int
    """Width of the LSTM cells."""

    components: int
    """Principal directions of W along which codes move; has no effect if basis is false."""

    basis: bool = True
    """Whether motion follows Eq. 2, along principal directions; false is the ablation without it."""

    mapping_samples: int = 1_000_000
    """Random subjects to which the principal directions are fitted."""

    residual_step: float = 0.2
    """Factor of each frame's movement (the residual of Eq. 2); the released code has 0.2."""

    critic_size: int
    """Width and height of the critics' frames in pixels."""

    render_batch: int = 64
    """Frames rendered together; if a batch has more, they are rendered again in the backward pass."""

    video_widths: tuple[int, ...]
    """Channels of the clip critic."""

    image_widths: tuple[int, ...]
    """Channels of the image critic."""

    embedding: int = 256
    """Width of F, the embedding head of the image critic."""

    queue: int = 4096
    """Number of embeddings in each queue of the contrastive loss."""

    momentum: float = 0.999
    """Decay of the momentum encoder of the contrastive loss."""

    temperature: float = 0.07
    """Temperature tau of the contrastive loss."""

    video_weight: float = 1.0
    """Weight of the clip critic in the generator's loss."""

    image_weight: float = 1.0
    """Weight of the image critic in the generator's loss."""

    information_weight: float = 1.0
    """lambda_m, the weight of the mutual information L_m in the generator's loss."""

    gp_weight: float = 10.0
    """lambda_GP, the weight of the gradient penalty in the clip critic's loss."""

    matching_weight: float = 0.0
    """lambda_f, the weight of the feature matching L_f in the generator's loss."""

    contrastive_weight: float = 0.0
    """Weight of the contrastive loss in the image critic's loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("video_widths", "image_widths"):
            self._set_widths(name)
        one_of("form", self.form, FORMS)
        one_of("mode", self.mode, MODES)
        whole_number("window", self.window, 2)
        whole_number("mapping_samples", self.mapping_samples, 2)
        for name in (
            *("time_step", "n_generator", "memory", "components", "critic_size", "render_batch", "embedding", "queue"),
        ):
            whole_number(name, getattr(self, name), 1)
        for name in ("residual_step", "momentum", "temperature", *WEIGHTS):
            self._set_number(name)
        for name in ("half_speed", "basis"):
            _switch(name, getattr(self, name))
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum: must be below 1, got {self.momentum}")
        if self.half_speed and self.time_step % 2:
            raise UserError(
                f"time_step: {self.time_step} is odd, but half_speed needs half of it in whole frames; give an even "
                "number, or half_speed=false"
            )
        if self.temperature == 0:
            raise UserError("temperature: must be above 0")
        if self.form == "paper" and self.mode == "in-domain":
            raise UserError("mode: form 'paper' needs mode 'cross-domain'; give that, or form 'code'")
        if self.residual == "paper" and self.components != self.memory:
            raise UserError(f"components: {self.components}, but Eq. 2 needs as many as the memory's {self.memory}")
        if self.mode == "cross-domain" and self.critic_size < 2 ** (len(self.image_widths) - 1):
            raise UserError(
                f"image_widths: {len(self.image_widths)} blocks halve {self.critic_size} pixels to nothing; give "
                "fewer, or a larger critic_size"
            )
        if self.mode == "in-domain" and self.matching_weight + self.contrastive_weight > 0:
            name = "matching_weight" if self.matching_weight else "contrastive_weight"
            raise UserError(f"{name}: the critic of mode 'in-domain' has no embedding; give 0, or mode 'cross-domain'")
        if self.video_weight + self.image_weight + self.matching_weight == 0:
            raise UserError("video_weight: no critic of frames is left; give it or image_weight above 0")

    @property
    def learns_from_pictures(self) -> bool:
        return self.mode == "cross-domain"

    @property
    def span(self) -> int:
        return (self.window - 1) * self.time_step + 1

    @property
    def stride(self) -> int:
        """Distance between two frames of a sampled clip, in frames of the footage."""
        return self.time_step // 2 if self.half_speed else self.time_step

    def check_suits(self, width: int) -> None:
        """Raise UserError if there are more components than W, `width` wide, has."""
        if self.components > width:
            raise UserError(f"components: {self.components}, but W of this domain has {width}; give at most that")

    @property
    def residual(self) -> str:
        """The formula that moves a code, one of RESIDUALS in `svgan.systems.mocogan_hd.motion`."""
        return self.form if self.basis else "none"

    @property
    def judges_clips(self) -> bool:
        return self.video_weight > 0

    @property
    def judges_frames(self) -> bool:
        return self.image_weight + self.matching_weight > 0

    @property
    def has_queue(self) -> bool:
        return self.judges_frames and self.contrastive_weight > 0 and self.form == "code"


def _switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise UserError(f"{name}: must be true or false, got {value!r}")
