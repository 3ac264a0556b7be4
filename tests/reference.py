"""An iteration as one would first write it in PyTorch: what `plain` and `fast` must equal, and are timed against.

GRUCells in a loop over frames and cells, an affine for each layer of W+, the critic as its modules, penalties by
`autograd.grad(create_graph=True)`, `backward`, torch.optim.Adam as it comes, an EMA parameter by parameter. It draws
what StyleVideoGAN's step draws. One worker, float32 or float64; it neither reports gradients' norms nor looks for NaN,
which both of ours do.
Axes: B clip, T frame, L W+ layer, K width of the space.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.motion.gradient_angle import gap_distance, gradient_angle, gradient_angle_penalty
from svgan.motion.gru import GRUMotion
from svgan.motion.noise import Noise
from svgan.motion.recurrence import CELLS
from svgan.systems.stylevideogan import step
from svgan.systems.stylevideogan.state import CodesState
from svgan.systems.stylevideogan.step import Clips
from svgan.torch_utils.distributed import SINGLE
from svgan.torch_utils.layers import pixel_norm
from svgan.training import losses


class Motion(nn.Module):
    """H, P, T and the affines A_j with the weights of a GRUMotion, whose codes are cut into `layers` equal parts."""

    def __init__(self, motion: GRUMotion, layers: int):
        super().__init__()
        self.memory = motion.memory
        self.hallucinate = copy.deepcopy(motion.hallucinate)
        self.cells = nn.ModuleList(
            nn.GRUCell(motion.noise if cell == 0 else motion.memory, motion.memory) for cell in range(CELLS)
        )
        self.trunk = copy.deepcopy(motion.trunk)
        outputs, features = motion.affine.weight.shape
        self.affines = nn.ModuleList(nn.Linear(features, outputs // layers) for _ in range(layers))
        self.register_buffer("spread", motion.spread.clone())
        self.to(motion.spread)
        with torch.no_grad():
            for ours, theirs in zip(self.cells.parameters(), motion.cells.parameters(), strict=True):
                ours.copy_(theirs)
            parts = motion.affine.weight.chunk(layers), motion.affine.bias.chunk(layers)
            for affine, weight, bias in zip(self.affines, *parts, strict=True):
                affine.weight.copy_(weight)
                affine.bias.copy_(bias)

    def forward(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """Codes [B, T, K] and latents [B, T, width]."""
        first = self.hallucinate(noise.i).view(len(noise.i), CELLS - 1, self.memory)
        memory = [*F.layer_norm(first, (self.memory,)).unbind(1), noise.i]
        latents = [noise.i]
        for x in noise.s.unbind(1):
            for index, cell in enumerate(self.cells):
                x = memory[index] = cell(x, memory[index])
            latents.append(x)
        found = torch.stack(latents, 1)
        features = self.trunk(pixel_norm(found))
        return torch.cat([affine(features) for affine in self.affines], -1) * self.spread, found

    def as_ours(self, values: list[Tensor]) -> list[Tensor]:
        """One value for each of parameters(), its gradient or itself, as a GRUMotion's parameters have them."""
        late = 2 * len(self.affines)
        early, weights, biases = values[:-late], values[-late::2], values[-late + 1 :: 2]
        return [*early, torch.cat(weights), torch.cat(biases)]


class Reference:
    """What trains, with the weights of a state of which then only draws and settings are read."""

    def __init__(self, state: CodesState):
        self.state, config = state, state.config
        self.motion = Motion(state.motion, state.space.layers if config.space == "wplus" else 1)
        self.ema = copy.deepcopy(self.motion).requires_grad_(False)
        self.critic, self.running = copy.deepcopy(state.critic), copy.deepcopy(state.running)
        settings = dict(lr=config.lr, betas=(config.beta1, config.beta2))
        self.motion_optimizer = torch.optim.Adam(self.motion.parameters(), **settings)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), **settings)

    def iterate(self, clips: Clips) -> dict[str, Tensor]:
        """Critic and generator once; figures as `svgan.systems.stylevideogan.step.iterate`'s, without the norms."""
        figures: dict[str, Tensor] = {}
        for turn in range(self.state.config.n_critic):
            figures |= self.critic_step(clips, turn)
        return figures | self.generator_step()

    def critic_step(self, clips: Clips, turn: int) -> dict[str, Tensor]:
        state, config = self.state, self.state.config
        real = clips.draw(config.batch, seed=config.seed, step=state.step, stream=turn)
        eps = torch.rand(config.batch, generator=step.stream(state, "eps", turn), device=state.device)
        with torch.no_grad():
            fake, _ = self.motion(step.draw_noise(state, SINGLE, "critic", turn))
        loss = losses.wasserstein_critic(self.critic(real), self.critic(fake))
        penalty = losses.gradient_penalty(self.critic, real, fake, eps)
        self.critic_optimizer.zero_grad()
        (loss + config.gp_weight * penalty).backward()
        self.critic_optimizer.step()
        return {"critic_loss": loss.detach(), "gradient_penalty": penalty.detach()}

    def generator_step(self) -> dict[str, Tensor]:
        state, config = self.state, self.state.config
        noise = step.draw_noise(state, SINGLE, "generator", 0)
        weight = step.gap_weight(state)
        noise = noise.requires_grad() if weight else noise
        codes, latents = self.motion(noise)
        loss = losses.wasserstein_generator(self.critic(codes))
        figures, total = {"generator_loss": loss.detach()}, loss
        if weight:
            distance = gap_distance(latents, *self.running.mean_and_spread())
            phi = gradient_angle(distance, noise)
            penalty = gradient_angle_penalty(phi)
            total = loss + weight * penalty
            figures |= {"gap": penalty.detach(), "phi": phi.mean().detach()}
        if config.gap_weight:
            moved = (latents[:, -1] - latents[:, 0]).detach()
            self.running.update(moved.mean(0), moved.square().mean(0))
        self.motion_optimizer.zero_grad()
        total.backward()
        self.motion_optimizer.step()
        with torch.no_grad():
            for average, weight in zip(self.ema.parameters(), self.motion.parameters(), strict=True):
                average.lerp_(weight, 1 - config.ema)
        return figures
