"""The gradient angle of StyleVideoGAN's GAP: how strongly the end of a clip depends on the noise of its later frames.

`svgan.metrics.loops` measures it, and StyleVideoGAN's loss penalises small angles.

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

    mean and spread [width] are running moments and take no gradient. The paper writes norm(l_{T-1} - l_0) only; this is
    reading (b) of docs/papers.md#stylevideogan-losses.
    """
    moved = (latents[:, -1] - latents[:, 0] - mean.detach()) / spread.detach()
    return (moved.square().sum(1) + EPSILON).sqrt()


def gradient_angle(distance: Tensor, noise: Noise) -> Tensor:
    """phi = arctan(||[dd/ds_0, ..., dd/ds_{T-2}]|| / ||dd/di||) per clip, [B], differentiable in the weights.

    phi of the paper's gradient angle penalty. It is near 0 if the first frame alone determines the clip's end (a loop).
    """
    by_i, by_s = torch.autograd.grad(distance.sum(), (noise.i, noise.s), create_graph=True)
    return torch.atan(by_s.flatten(1).norm(dim=1) / (by_i.norm(dim=1) + EPSILON))


def gradient_angle_penalty(phi: Tensor) -> Tensor:
    """L_GAP = E[max(0, pi / 4 - phi)^2] of angles [B] (equation of the paper, docs/papers.md#stylevideogan-losses)."""
    return (math.pi / 4 - phi).clamp_min(0).square().mean()
