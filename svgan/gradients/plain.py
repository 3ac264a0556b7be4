"""Gradients by automatic differentiation: each line a formula. Any motion model, any critic."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from svgan import losses
from svgan.gradients.found import Found
from svgan.motion.noise import Noise
from svgan.motion.recurrence import unroll_plain
from svgan.state import State


class Plain:
    def critic(self, state: State, real: Tensor, fake: Tensor, eps: Tensor) -> Found:
        real_score, fake_score = losses.wide(state.critic(torch.cat([real, fake]))).chunk(2)
        loss = losses.wasserstein_critic(real_score, fake_score)
        penalty = losses.gradient_penalty(state.critic, real, fake, eps)
        total = loss + state.config.gp_weight * penalty
        gradients = torch.autograd.grad(total, list(state.critic.parameters()))
        return Found(list(gradients), {"critic_loss": loss, "gradient_penalty": penalty})

    def generator(self, state: State, noise: Noise) -> Found:
        weight = state.config.gap_weight
        noise = noise.requires_grad() if weight else noise
        fake, latents = state.motion(noise)
        total = losses.wasserstein_generator(losses.wide(state.critic(fake)))
        figures: dict[str, Tensor] = {"generator_loss": total}
        moments: tuple[Tensor, ...] = ()
        if weight:
            phi = losses.gradient_angle(losses.gap_distance(latents, *state.running.mean_and_spread()), noise)
            penalty = losses.gradient_angle_penalty(phi)
            total = total + weight * penalty
            figures |= {"gap": penalty, "phi": phi.mean()}
            moments = losses.moments((latents[:, -1] - latents[:, 0]).detach())
        return Found(list(torch.autograd.grad(total, list(state.motion.parameters()))), figures, moments)

    @torch.no_grad()
    def latents(self, state: State, noises: Sequence[Noise]) -> list[Tensor]:
        return [state.motion.latents(noise, unroll_plain) for noise in noises]
