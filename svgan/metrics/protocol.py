"""By which rules a figure was made: an object whose hash goes with every FVD.

Two figures compare only under one hash. With a few dozen generated clips the covariance of 400 features has low
rank and FVD comes out too high: the bias is the same for every model scored on as many clips, so ranks hold, but
such a figure does not compare with one made from 2048 clips (the usual count).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from svgan.errors import UserError
from svgan.metrics.i3d import MIN_FRAMES, Precision

REAL_FIELDS = ("real_clips", "frames", "stride", "resize", "detector", "precision", "seed")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to compute an FVD. Every field enters `hash`; those of the real side alone enter `real_hash`.

    Generated: `clips` rollouts of `rollout` frames, the last `frames` of each, every `stride`-th. Real:
    `real_clips` windows of as many frames at random starts, overlap allowed, drawn with `seed`.
    """

    name: str
    clips: int = 64
    real_clips: int = 256
    frames: int = 25
    rollout: int = 25
    stride: int = 1
    resize: str = "bilinear, no antialias, 224"
    detector: str = "i3d-kinetics400-logits/af5c50f0df57"  # start of the weights' sha256 in svgan.assets
    precision: Precision = "bfloat16"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("clips", 2), ("real_clips", 2), ("frames", MIN_FRAMES), ("stride", 1)):
            if getattr(self, name) < least:
                raise UserError(f"protocol {self.name}: {name} must be at least {least}, got {getattr(self, name)}")
        if self.rollout < self.span:
            raise UserError(f"protocol {self.name}: rollout {self.rollout} is shorter than the {self.span} frames used")
        if self.precision not in ("float32", "bfloat16"):
            raise UserError(f"protocol {self.name}: precision '{self.precision}' is neither float32 nor bfloat16")

    @property
    def span(self) -> int:
        """Frames from the first to the last that is scored."""
        return (self.frames - 1) * self.stride + 1

    @property
    def hash(self) -> str:
        """12 hex digits over every field."""
        return _digest(asdict(self))

    @property
    def real_hash(self) -> str:
        """12 hex digits over what decides the real moments: equal for protocols that share their real side."""
        return _digest({k: getattr(self, k) for k in REAL_FIELDS})

    def with_clips(self, clips: int) -> Protocol:
        return replace(self, clips=clips)

    def with_precision(self, precision: Precision) -> Protocol:
        return replace(self, precision=precision)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, d: dict[str, Any]) -> Protocol:
        """What to_json gave. Raises UserError for unknown or missing fields."""
        unknown = sorted(set(d) - {f.name for f in fields(cls)})
        if unknown or "name" not in d:
            raise UserError(f"protocol: {f'unknown fields {unknown}' if unknown else 'no name'}; was it edited?")
        return cls(**d)


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


# systems.md 1.8; the paper does not define short and long, so the lengths are ours.
PROTOCOLS: dict[str, Protocol] = {
    "svg-short": Protocol(name="svg-short"),
    "svg-long": Protocol(name="svg-long", rollout=250),
}


def usual_precision(device: str) -> Literal["float32", "bfloat16"]:
    """bfloat16 where the device multiplies it in hardware, else float32.

    Measured on one core with AMX: 0.28 s a 25-frame clip instead of 1.4 s; features off by 1.6 % of their length,
    FVD 59.4 instead of 59.1 (held-out footage) and 332.2 instead of 332.2 (blurred; 48 real clips against 24). The
    precision is part of a protocol's hash: decide once for a study, not per worker.
    """
    import torch

    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    able = torch.cpu.get_capabilities()
    return "bfloat16" if able.get("amx_bf16") or able.get("avx512_bf16") else "float32"
