"""The configuration of a temporal GAN on codes: StyleVideoGAN, and variants of its generator and critic."""

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
    """The configuration of a temporal GAN on codes: the fields of `RunConfig`, and those below.

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
    """Coordinates of the codes: 'wplus' (all of W+) or 'pca' (the first `components` principal components)."""

    components: int | None = None
    """Number of principal components; for space 'pca' only."""

    motion: Literal["gru", "acyclic"] = "gru"
    """The motion model: 'gru' is StyleVideoGAN's; 'acyclic' has StyleGAN-V's motion codes and no GAP (gap_weight 0)."""

    width: int = 32
    """Width of the GRU's memories and of the first frame's noise i; with 'acyclic', of content and motion codes."""

    noise: int = 32
    """Width of each later frame's noise s_k; with 'acyclic', of the noise of an anchor."""

    distance: int = ANCHORS["distance"]
    """Frames between anchors; for motion 'acyclic' only."""

    kernel: int = ANCHORS["kernel"]
    """Anchors per convolution; for motion 'acyclic' only."""

    trunk: tuple[int, ...]
    """Widths of T, the generator's MLP between motion model and codes."""

    critic: str = "tconv"
    """The critic's design: 'tconv', 'multiscale' or 'holistic' (the keys of critics.DESIGNS)."""

    critic_widths: tuple[int, ...]
    """Widths of E, the critic's MLP on single frames, without its input."""

    n_critic: int
    """Critic steps per generator step."""

    gp_weight: float = 10.0
    """lambda_GP, the weight of the gradient penalty."""

    gap_weight: float = 100.0
    """lambda_GAP, the weight of the gradient angle penalty."""

    gap_every: int = 1
    """Compute GAP in every gap_every-th generator step only, with gap_every times its weight (inexact, but cheaper)."""

    critic_kernel: int | None = None
    """Frames per convolution; for critic 'tconv' only. null is the design's default."""

    critic_rates: int | None = None
    """Number of rates in time; for critic 'multiscale' only. null is the design's default."""

    critic_starts: int | None = None
    """Least number of frame triples per span; for critic 'holistic' only. null is the design's default."""

    iteration: Literal["plain", "fast", "graph"] = "plain"
    """The implementation of an iteration; metrics differ by rounding only.

    'plain' uses autograd. 'fast' computes the same gradients by hand-written formulas (fast/). 'graph' runs 'fast' as
    one CUDA graph if there is one GPU, else it is 'fast'. With 'fast' and 'graph', precision 'bfloat16' applies only to
    the matrix products of the critic, T and A, on processors that support it (fast/precision.py).
    """

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
                f"gap_weight: {self.gap_weight:g}, but GAP needs motion 'gru', not 'acyclic'; give 0, or leave it out"
            )
        if self.iteration != "plain":
            raise UserError(f"iteration: {self.iteration!r} needs motion 'gru', not 'acyclic'; leave it out")
        check_distance(self.distance)

    def critic_options(self) -> dict[str, int]:
        """Return the options that are set, under the names that the critic's design uses."""
        named = {name.removeprefix("critic_"): getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in named.items() if value is not None}

    def _check_critic_options(self) -> None:
        for name, value in self.critic_options().items():
            allowed = DESIGNS[self.critic].options.get(name)
            if allowed is None:
                owners = [design for design, critic in DESIGNS.items() if name in critic.options]
                raise UserError(
                    f"critic_{name}: critic {self.critic!r} has no such option; leave it out, or use "
                    f"{' or '.join(owners)}"
                )
            if isinstance(value, bool) or value not in allowed:
                raise UserError(f"critic_{name}: {value!r} is not one of {', '.join(map(str, allowed))}")
