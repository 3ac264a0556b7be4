"""The Wasserstein losses with gradient penalty, as pure functions of tensors.

    critic:    E[C(fake)] - E[C(real)] + lambda_GP L_GP
    generator: -E[C(fake)] + lambda_GAP L_GAP (`svgan.motion.gradient_angle`)

Axes: B clip, T frame, K width of the space.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Convert x to float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """E[C(fake)] - E[C(real)] of scores [B] (Arjovsky et al. 2017)."""
    return fake.mean() - real.mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """-E[C(fake)] of scores [B]."""
    return -fake.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
    """E[(||grad C(w^)||_2 - 1)^2] at w^ = eps real + (1 - eps) fake, with the norm over all T K entries of a clip.

    real, fake [B, T, K]; eps [B] in (0, 1). Gulrajani et al. 2017. The critic must not mix samples.
    """
    eps = eps[:, None, None]
    between = (eps * real + (1 - eps) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
