"""Protocols: the rules by which FVD and other metrics are computed. The hash of a protocol is stored with every FVD.

Two values are comparable only under one hash. With a few dozen generated clips the covariance of 400 features has low
rank, and FVD is too high. The bias is the same for every model measured on equally many clips, so ranks are valid. Such
a value is not comparable with one from 2048 clips (the usual count).

PROTOCOLS has ours and those of two papers' code, as far as they apply to codes and a domain. One thing differs:
pictures have the domain's size, while theirs are 256 px (StyleGAN-V) or recorded frames.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from svgan.errors import UserError
from svgan.metrics.i3d import MIN_FRAMES, Precision

Covariance = Literal["1/(N-1)", "1/N"]
REAL_FIELDS = (
    *("real_clips", "frames", "stride", "resize", "detector", "precision", "seed"),
    *("split", "per_video", "starts", "image_size"),
)
INCEPTION = "inception-2015-12-05/7ff4a85c3a63"  # start of the weights' sha256 in svgan.assets.cache
LEAST_REAL = 64  # least number of real clips of a protocol that was requested by name
# Rules that always held, and are fields since 2026-11-22. At these values they do not enter the hashes, so earlier
# values and shipped moments keep theirs.
ALWAYS: dict[str, Any] = {
    "split": "all",
    "per_video": None,
    "starts": "uniform",
    "image_size": None,
    "covariance": "1/(N-1)",
    "pictures": 4,
    "picture_detector": INCEPTION,
}
KNOWN: dict[str, tuple[Any, ...]] = {
    "precision": ("float32", "bfloat16"),
    "split": ("all",),
    "per_video": (None, 1),
    "starts": ("uniform",),
    "covariance": ("1/(N-1)", "1/N"),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to compute FVD. Every field enters `hash`; the fields of the real side alone enter `real_hash`.

    - Generated: `clips` rollouts of `rollout` frames, and of each the last `frames` frames at a distance of `stride`.
    - Real: `real_clips` windows of as many frames, from the videos in `split` (all). `seed` draws their starts
      uniformly among all windows; windows may overlap.
    - With `per_video` 1: one window of each video, of at most `real_clips` videos in their order. Videos shorter than
      frames * stride are left out.
    - Pictures are resized to `image_size` pixels (None: the domain's own), then by `resize` to the detector's size.
    - `covariance` is that of both sides. FID and KID use `pictures` evenly spaced frames of each clip.
    """

    name: str
    clips: int = 64
    real_clips: int = 256
    frames: int = 25
    rollout: int = 25
    stride: int = 1
    resize: str = "bilinear, no antialias, 224"
    detector: str = "i3d-kinetics400-logits/af5c50f0df57"  # start of the weights' sha256 in svgan.assets.cache
    precision: Precision = "bfloat16"
    seed: int = 0
    split: Literal["all"] = "all"
    per_video: int | None = None
    starts: Literal["uniform"] = "uniform"
    image_size: int | None = None
    covariance: Covariance = "1/(N-1)"
    pictures: int = 4
    picture_detector: str = INCEPTION

    def __post_init__(self) -> None:
        for name, least in (("clips", 2), ("real_clips", 2), ("frames", MIN_FRAMES), ("stride", 1), ("pictures", 1)):
            if getattr(self, name) < least:
                raise UserError(f"protocol {self.name}: {name} must be at least {least}, got {getattr(self, name)}")
        if self.rollout < self.span:
            raise UserError(f"protocol {self.name}: rollout {self.rollout} is shorter than the {self.span} frames used")
        for name, known in KNOWN.items():
            if (value := getattr(self, name)) not in known:
                choices = " or ".join(str(one) for one in known)
                raise UserError(f"protocol {self.name}: {name} must be {choices}, got {value}")
        if self.image_size is not None and self.image_size < 16:
            raise UserError(f"protocol {self.name}: image_size must be at least 16 pixels, got {self.image_size}")

    @property
    def span(self) -> int:
        """Number of frames from the first to the last that is scored."""
        return (self.frames - 1) * self.stride + 1

    @property
    def hash(self) -> str:
        """12 hex digits over every field."""
        return _digest(asdict(self))

    @property
    def real_hash(self) -> str:
        """12 hex digits over the fields that determine the real moments: equal for protocols with the same real
        side.
        """
        return _digest({k: getattr(self, k) for k in REAL_FIELDS})

    @property
    def figure(self) -> str:
        """The name of its FVD: fvd_short and fvd_long for the two protocols of every study, else fvd/NAME."""
        kind = self.name.removeprefix("svg-")
        return f"fvd_{kind}" if kind in ("short", "long") and kind != self.name else f"fvd/{self.name}"

    def with_clips(self, clips: int) -> Protocol:
        return replace(self, clips=clips)

    def with_precision(self, precision: Precision) -> Protocol:
        return replace(self, precision=precision)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, d: dict[str, Any]) -> Protocol:
        """Read what `to_json` returned. Raises UserError for unknown or missing fields."""
        unknown = sorted(set(d) - {f.name for f in fields(cls)})
        if unknown or "name" not in d:
            raise UserError(f"protocol: {f'unknown fields {unknown}' if unknown else 'no name'}; was it edited?")
        return cls(**d)


def _digest(values: dict[str, Any]) -> str:
    values = {key: value for key, value in values.items() if key not in ALWAYS or value != ALWAYS[key]}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


# One random clip of each video, covariance with 1/N, resize inside the detector: docs/papers.md#fvd-protocol, from
# universome/stylegan-v, src/metrics (FeatureStats.get_mean_cov; fvd2048_16f, _128f, _128f_subsample8f).
STYLEGAN_V: dict[str, Any] = {"clips": 2048, "real_clips": 2048, "per_video": 1, "covariance": "1/N"}

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # StyleVideoGAN's Table 1 (docs/papers.md#stylevideogan-results) does not define short and long; the lengths are
        # ours.
        Protocol(name="svg-short"),
        Protocol(name="svg-long", rollout=250),
        Protocol(name="stylegan-v-16", frames=16, rollout=16, **STYLEGAN_V),
        Protocol(name="stylegan-v-128", frames=128, rollout=128, **STYLEGAN_V),
        Protocol(name="stylegan-v-128-s8", frames=16, stride=8, rollout=121, **STYLEGAN_V),
        # docs/papers.md#mocogan-hd-protocol: 2048 clips on each side at 128 px, one per video. google-research's FVD is
        # TF-GAN's distance, whose covariance has 1/(N-1). Its resize to 224 px treats corners differently from ours.
        Protocol(name="mocogan-hd-16", clips=2048, real_clips=2048, frames=16, rollout=16, per_video=1, image_size=128),
    )
}


def named(name: str) -> Protocol:
    """Return the protocol of that name. Raises UserError listing the known names."""
    if name not in PROTOCOLS:
        raise UserError(f"protocol {name!r}: unknown; one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def usual_precision(device: str) -> Literal["float32", "bfloat16"]:
    """Return bfloat16 if the device multiplies it in hardware, else float32.

    Measured on one core with AMX: 0.28 s for a clip of 25 frames instead of 1.4 s, with features off by 1.6 % of their
    length. FVD is 59.4 instead of 59.1 (held-out footage), and 332.2 in both (blurred; 48 real clips against 24). The
    precision is part of a protocol's hash: choose it once for a study, not per worker.
    """
    import torch

    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    able = torch.cpu.get_capabilities()
    return "bfloat16" if able.get("amx_bf16") or able.get("avx512_bf16") else "float32"
