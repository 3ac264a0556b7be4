"""The gradient angle of StyleVideoGAN's GAP: how far a clip's end depends on the noise of its later frames.

The judges measure it (`svgan.metrics.loops`), and StyleVideoGAN's generator is penalised by it.

Axes: B clip, T frame, K width of the space, Z noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from svgan.motion.noise import Noise

EPSILON = 1e-8


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
