"""The Wasserstein losses with gradient penalty, each formula once. All take and return tensors; none keeps anything.

    critic:    E[C(fake)] - E[C(real)] + lambda_GP L_GP
    generator: -E[C(fake)] + lambda_GAP L_GAP (`svgan.motion.gradient_angle`)

Axes: B clip, T frame, K width of the space.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """x in float32, or in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """E[C(fake)] - E[C(real)] of scores [B] (Arjovsky et al. 2017)."""
    return fake.mean() - real.mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """-E[C(fake)] of scores [B]."""
    return -fake.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
    """E[(||grad C(w^)||_2 - 1)^2] at w^ = eps real + (1 - eps) fake, the norm over all T K entries of a clip.

    real, fake [B, T, K]; eps [B] in (0, 1). Gulrajani et al. 2017. The critic must not mix samples.
    """
    eps = eps[:, None, None]
    between = (eps * real + (1 - eps) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
