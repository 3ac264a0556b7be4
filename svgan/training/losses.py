"""Each formula of StyleVideoGAN's training once (systems.md 1.5). All take and return tensors; none keeps anything.

    critic:    E[C(fake)] - E[C(real)] + lambda_GP L_GP
    generator: -E[C(fake)] + lambda_GAP L_GAP

Axes: B clip, T frame, K width of the space, Z noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from svgan.motion.noise import Noise

EPSILON = 1e-8


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


def gap_distance(latents: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """d = ||(l_{T-1} - l_0 - mean) / spread||_2 per clip: latents [B, T, width] to [B].

    Reading (b) of systems.md 1.5; mean and spread [width] are running and take no gradient.
    """
    moved = (latents[:, -1] - latents[:, 0] - mean.detach()) / spread.detach()
    return (moved.square().sum(1) + EPSILON).sqrt()


def gradient_angle(distance: Tensor, noise: Noise) -> Tensor:
    """phi = arctan(||[dd/ds_0, ..., dd/ds_{T-2}]|| / ||dd/di||) per clip, [B], differentiable in the weights.

    The paper's gradient angle: near 0 when the clip's end follows from its first frame alone (a loop).
    """
    by_i, by_s = torch.autograd.grad(distance.sum(), (noise.i, noise.s), create_graph=True)
    return torch.atan(by_s.flatten(1).norm(dim=1) / (by_i.norm(dim=1) + EPSILON))


def gradient_angle_penalty(phi: Tensor) -> Tensor:
    """L_GAP = E[max(0, pi / 4 - phi)^2] of angles [B] (the paper's equation)."""
    return (math.pi / 4 - phi).clamp_min(0).square().mean()
