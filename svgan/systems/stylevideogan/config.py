"""What a run of a temporal GAN on codes is: StyleVideoGAN's, and variants of its generator and critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from svgan.errors import UserError
from svgan.motion.acyclic import check_distance
from svgan.systems.stylevideogan.critics import DESIGNS
from svgan.training.config import RunConfig, one_of, whole_number

SPACES = ("wplus", "pca")
MOTIONS = ("gru", "acyclic")
ITERATIONS = ("plain", "fast", "graph")
OPTIONS = ("critic_kernel", "critic_rates", "critic_starts")
ANCHORS = {"distance": 16, "kernel": 11}  # StyleGAN-V's


@dataclass(frozen=True, kw_only=True)
class CodesConfig(RunConfig):
    """A temporal GAN on codes; beside what every run has:

    space: the coordinates of the codes, 'wplus' (all L D of them) or 'pca' (the first `components` principal ones).
    motion: 'gru', StyleVideoGAN's, or 'acyclic', StyleGAN-V's motion codes, which have no GAP (gap_weight 0).
    width: of the GRU's memories and of i, or of content and motion codes; noise: width of s_k, or of an anchor's.
    distance, kernel: of the acyclic motion, frames between anchors and how many anchors a convolution sees.
    trunk: widths of T. critic: a key of critics.DESIGNS; critic_widths: E's widths, input left out. n_critic:
    critic steps per generator step.
    gp_weight, gap_weight: lambda_GP and lambda_GAP. gap_every: GAP is in every so many generator steps alone, as many
    times as heavy there (inexact, and cheaper). critic_kernel (of 'tconv'), critic_rates (of 'multiscale'),
    critic_starts (of 'holistic'): what one design alone lets a run set; None is the design's own. iteration: 'fast'
    finds the same gradients by hand (fast/); figures differ by rounding. 'graph' is that as one CUDA graph, where
    there is one GPU, else 'fast'. With either, precision 'bfloat16' is of the
    products of the critic, T and A alone, where the processor has such products (fast/precision.py).

    Raises UserError naming the field.
    """

    system: ClassVar[str] = "codes"
    quiet: ClassVar[dict[str, Any]] = {
        "system": "codes",
        **dict.fromkeys(OPTIONS),
        "gap_every": 1,
        "motion": "gru",
        **ANCHORS,
    }
    unhashed: ClassVar[dict[str, Any]] = {"iteration": "plain"}

    paced: ClassVar[tuple[str, ...]] = (*RunConfig.paced, "width", "n_critic", "iteration", "gap_every", "motion")

    space: Literal["wplus", "pca"]
    components: int | None = None
    motion: Literal["gru", "acyclic"] = "gru"
    width: int = 32
    noise: int = 32
    distance: int = ANCHORS["distance"]
    kernel: int = ANCHORS["kernel"]
    trunk: tuple[int, ...]
    critic: str = "tconv"
    critic_widths: tuple[int, ...]
    n_critic: int
    gp_weight: float = 10.0
    gap_weight: float = 100.0
    gap_every: int = 1
    critic_kernel: int | None = None
    critic_rates: int | None = None
    critic_starts: int | None = None
    iteration: Literal["plain", "fast", "graph"] = "plain"

    def __post_init__(self) -> None:
        for name in ("trunk", "critic_widths"):
            self._set_widths(name)
        one_of("space", self.space, SPACES)
        one_of("motion", self.motion, MOTIONS)
        one_of("critic", self.critic, tuple(DESIGNS))
        one_of("iteration", self.iteration, ITERATIONS)
        super().__post_init__()
        if (self.components is None) != (self.space == "wplus"):
            raise UserError(
                f"components: {self.components} with space {self.space!r}; give it for 'pca', and only there"
            )
        for name in ("width", "noise", "n_critic", "gap_every", *ANCHORS):
            whole_number(name, getattr(self, name), 1)
        if self.components is not None:
            whole_number("components", self.components, 1)
        whole_number("window", self.window, DESIGNS[self.critic].least_window)
        self._check_critic_options()
        for name in ("gp_weight", "gap_weight"):
            self._set_number(name)
        if self.motion == "acyclic":
            self._check_acyclic()
        for name, usual in ANCHORS.items():
            if self.motion == "gru" and getattr(self, name) != usual:
                raise UserError(f"{name}: {getattr(self, name)}, but motion 'gru' has no anchors; leave it out")

    def _check_acyclic(self) -> None:
        if self.gap_weight:
            raise UserError(
                f"gap_weight: {self.gap_weight:g}, but GAP is of a GRU's noise and motion 'acyclic' has none; "
                "give 0, or leave it out"
            )
        if self.iteration != "plain":
            raise UserError(f"iteration: {self.iteration!r} is of motion 'gru', not of 'acyclic'; leave it out")
        check_distance(self.distance)

    def critic_options(self) -> dict[str, int]:
        """The options that are set, by the names that the critic's design knows them by."""
        named = {name.removeprefix("critic_"): getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in named.items() if value is not None}

    def _check_critic_options(self) -> None:
        for name, value in self.critic_options().items():
            allowed = DESIGNS[self.critic].options.get(name)
            if allowed is None:
                owners = [design for design, critic in DESIGNS.items() if name in critic.options]
                raise UserError(
                    f"critic_{name}: critic {self.critic!r} has none; leave it out, or use {' or '.join(owners)}"
                )
            if isinstance(value, bool) or value not in allowed:
                raise UserError(f"critic_{name}: {value!r} is not one of {', '.join(map(str, allowed))}")
