"""What StyleGAN-V's losses have that a picture's have not (systems.md 3.4). The rest is svgan.images.losses."""

from __future__ import annotations

from torch import Tensor

from svgan.images import losses


def r1(logits: Tensor, clips: Tensor) -> Tensor:
    """||grad D(x)||^2 per clip [B, T, 3, H, W], averaged over its frames and the clips; without its gamma / 2."""
    return losses.r1(logits, clips) / clips.shape[1]


def ema_decay(batch: int, seen: int, half_life: float = 20_000, ramp: float = 0.05) -> float:
    """Of one step of `batch` clips after `seen`: what `half_life` clips halve, or `ramp` of those seen if fewer."""
    return 0.5 ** (batch / max(min(half_life, ramp * seen), 1e-8))
