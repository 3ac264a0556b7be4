"""What a run of MoCoGAN-HD is."""

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
    """MoCoGAN-HD; beside what every run has:

    form: where the two differ, the released 'code' or the 'paper'. In the code's, mode 'in-domain' judges pairs of a
    first and a later frame, against pairs of the footage, by RaLSGAN; 'cross-domain' judges single frames, a clip's own
    first one being real, by hinge losses and contrast. In the paper's, which wants the cross-domain critics, losses are
    logistic, the residual is Eq. 2's, H sees h_t alone, and contrast is within the batch, without a queue.

    window frames, every `time_step`th of the footage, make a clip; half_speed: sampled clips get the means of
    neighbours between their frames. A step is one of the critics and `n_generator` of the generator on the same real
    clips. memory: width of the LSTM cells; components: principal directions of W that move (unless basis is off: the
    ablation without Eq. 2); mapping_samples: subjects that the directions are fitted to; residual_step: its 0.2.
    critic_size: pixels of the critics' frames; render_batch: frames rendered at a time, recomputed in the backward pass
    when a batch has more. video_widths, image_widths: channels of the critics. embedding: width of F; queue, momentum,
    temperature: of its contrast. Weights of the generator's terms: video, image, information (L_m), matching (L_f); of
    the critics': gp (of the clip critic), contrastive. A weight of 0 removes its term alone.

    Raises UserError naming the field.
    """

    system: ClassVar[str] = "mocogan-hd"
    learns_from_frames: ClassVar[bool] = True
    paced: ClassVar[tuple[str, ...]] = (*RunConfig.paced, "mode", "form", "n_generator", "critic_size")

    window: int = 16
    form: Literal["code", "paper"] = "code"
    mode: Literal["in-domain", "cross-domain"] = "in-domain"
    time_step: int = 2
    half_speed: bool = True
    n_generator: int = 5
    memory: int
    components: int
    basis: bool = True
    mapping_samples: int = 1_000_000
    residual_step: float = 0.2
    critic_size: int
    render_batch: int = 64
    video_widths: tuple[int, ...]
    image_widths: tuple[int, ...]
    embedding: int = 256
    queue: int = 4096
    momentum: float = 0.999
    temperature: float = 0.07
    video_weight: float = 1.0
    image_weight: float = 1.0
    information_weight: float = 1.0
    gp_weight: float = 10.0
    matching_weight: float = 0.0
    contrastive_weight: float = 0.0

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
                f"time_step: {self.time_step} is odd, and at half speed a sampled frame is half of it on; give an even "
                "number, or half_speed=false"
            )
        if self.temperature == 0:
            raise UserError("temperature: must be above 0")
        if self.form == "paper" and self.mode == "in-domain":
            raise UserError("mode: the paper's form has the critics of 'cross-domain' alone; give that, or form 'code'")
        if self.residual == "paper" and self.components != self.memory:
            raise UserError(f"components: {self.components}, but Eq. 2 wants as many as the memory's {self.memory}")
        if self.mode == "cross-domain" and self.critic_size < 2 ** (len(self.image_widths) - 1):
            raise UserError(
                f"image_widths: {len(self.image_widths)} blocks halve {self.critic_size} pixels to nothing; give "
                "fewer, or a larger critic_size"
            )
        if self.mode == "in-domain" and self.matching_weight + self.contrastive_weight > 0:
            name = "matching_weight" if self.matching_weight else "contrastive_weight"
            raise UserError(f"{name}: the critic of mode 'in-domain' has no embedding; give 0, or mode 'cross-domain'")
        if self.video_weight + self.image_weight + self.matching_weight == 0:
            raise UserError("video_weight: nothing is left that judges frames; give it or image_weight above 0")

    @property
    def learns_from_pictures(self) -> bool:
        return self.mode == "cross-domain"

    @property
    def span(self) -> int:
        return (self.window - 1) * self.time_step + 1

    @property
    def stride(self) -> int:
        """Frames of the footage between two of a sampled clip."""
        return self.time_step // 2 if self.half_speed else self.time_step

    def check_suits(self, width: int) -> None:
        """Raises UserError for more components than W, `width` wide, has."""
        if self.components > width:
            raise UserError(f"components: {self.components}, but W of this domain has {width}; give at most that")

    @property
    def residual(self) -> str:
        """Which formula moves a code: `svgan.systems.mocogan_hd.motion`."""
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
