"""Losses of the domain trainer, each a pure function. Pictures x, y [B, 3, H, W] in [-1, 1].

StyleGAN-V shares the losses of generator and discriminator. Its clips are [B, T, 3, H, W]; a picture is a clip of one
frame.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def reconstruction(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 of pixels, of their differences to the right and below, and of the half-size pictures (ours).

    weight [B, 1, H, W]. The differences carry the lids and lips, which plain L1 blurs away.
    """
    pixels = (weight * (x - y).abs()).mean()
    across = (weight[..., 1:] * (x.diff(dim=3) - y.diff(dim=3)).abs()).mean()
    down = (weight[..., 1:, :] * (x.diff(dim=2) - y.diff(dim=2)).abs()).mean()
    half = (F.avg_pool2d(weight, 2) * (F.avg_pool2d(x, 2) - F.avg_pool2d(y, 2)).abs()).mean()
    return pixels + across + down + half


def feature_matching(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Mean L1 between the discriminator's activations of a picture and its reconstruction (Larsen et al. 2016)."""
    return torch.stack([(r.detach() - f).abs().mean() for r, f in zip(real, fake, strict=True)]).mean()


def logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """softplus(D(fake)) + softplus(-D(real)) (Goodfellow et al. 2014)."""
    return F.softplus(fake).mean() + F.softplus(-real).mean()


def logistic_generator(fake: Tensor) -> Tensor:
    """softplus(-D(fake)): non-saturating (Goodfellow et al. 2014)."""
    return F.softplus(-fake).mean()


def r1(logits: Tensor, seen: Tensor) -> Tensor:
    """||grad D(x)||^2 per frame, averaged over frames and samples, without the factor gamma / 2.

    Mescheder et al. 2018; over a clip's frames as in StyleGAN-V (docs/papers.md#stylegan-v-training).
    """
    (gradient,) = torch.autograd.grad(logits.sum(), seen, create_graph=True)
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    frames = seen.shape[1] if seen.ndim == 5 else 1
    return gradient.square().flatten(1).sum(1).mean() / frames


def with_lazy_r1(
    loss: Tensor, judge: Callable[[Tensor], Tensor], real: Tensor, *, step: int, gamma: float, every: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add gamma / 2 R1 of the real samples to a discriminator's loss in every `every`-th step, `every` times as heavy.

    Karras et al. 2020. Returns the loss and, in those steps, R1 as figures. judge: samples to logits.
    """
    if gamma <= 0 or step % every:
        return loss, {}
    watched = real.detach().requires_grad_()
    penalty = r1(judge(watched), watched)
    return loss + gamma / 2 * every * penalty, {"r1": penalty}


def augment(x: Tensor, rng: torch.Generator) -> Tensor:
    """Brightness, contrast and a shift of up to an eighth, one draw a picture (DiffAugment, Zhao et al. 2020)."""
    b, _, h, w = x.shape
    u = torch.rand(b, 4, generator=rng).to(x.device)
    x = x + (u[:, 0, None, None, None] - 0.5) * 0.4
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * (u[:, 1, None, None, None] * 0.5 + 0.75) + mean
    theta = torch.eye(2, 3, device=x.device).repeat(b, 1, 1)
    theta[:, :, 2] = ((u[:, 2:] * 2 - 1) * torch.tensor([w, h], device=x.device) / 8).round() * 2 / w
    grid = F.affine_grid(theta, [b, 1, h, w], align_corners=False)
    return F.grid_sample(x, grid.to(x.dtype), mode="nearest", padding_mode="reflection", align_corners=False)
