"""One step of StyleGAN-V: the discriminator, then the generator, then ADA (docs/papers.md#stylegan-v-training).

`svgan.training.draws` defines how a step draws random numbers, `svgan.training.optimize` how it updates weights. The
discriminator compares groups of 4 clips, so w workers learn the same as one if each has a multiple of 4.

Layers, losses and lazy R1 are those of the domain's trainer (svgan.images), which treats a picture as a clip of one
frame. That trainer has its own loop, because it also learns an encoder, and reconstructs.

Ours: R1 is taken of the augmented clips, because PyTorch has no second derivative of the resampling. It is added to the
loss of its step; the released code takes a separate step.

Axes: B clip, T frame, R pixels, D width of W, K width of a frame's code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from svgan.images.losses import logistic_discriminator, logistic_generator, with_lazy_r1
from svgan.systems.stylegan_v import augment
from svgan.systems.stylegan_v.frame_times import draw_times
from svgan.systems.stylegan_v.source import SparseClips
from svgan.systems.stylegan_v.state import StyleGANVState
from svgan.torch_utils.distributed import Process
from svgan.training.draws import own_part, stream
from svgan.training.losses import wide
from svgan.training.optimize import autocast, descend, gradients, move_average

W_DECAY = 0.998  # decay of the running mean of w, towards which truncation moves codes

Figures = dict[str, Tensor]


def iterate(state: StyleGANVState, source: SparseClips, process: Process) -> Figures:
    """Train discriminator and generator once, in place; return metrics as 0-d tensors, means over ranks.

    Raises NonFiniteLoss as `svgan.training.optimize.descend` does.
    """
    config = state.config
    figures = critic_step(state, source, process) | generator_step(state, process)
    figures["augmented"] = state.adaptation.p.float()
    if config.augment_clips:
        state.adaptation.follow(state.step, figures["real_sign"], config.batch, config.augment_clips)
    return figures


def critic_step(state: StyleGANVState, source: SparseClips, process: Process) -> Figures:
    """Minimise the logistic loss by one Adam step; every r1_every-th step adds R1."""
    config = state.config
    real, times = source.draw(config.batch, seed=config.seed, step=state.step, rank=process.rank, world=process.world)
    with torch.no_grad():
        fake, fake_times, _ = generated(state, process, "critic")
    real, fake = (seen(state, clips, name, process) for clips, name in ((real, "real"), (fake, "critic")))
    with autocast(state):
        logits = wide(state.critic(real, times))
        loss = logistic_discriminator(logits, wide(state.critic(fake, fake_times)))
    total, penalty = with_lazy_r1(
        loss,
        lambda clips: state.critic(clips, times),
        real,
        step=state.step,
        gamma=config.r1_weight(real.shape[-1]),
        every=config.r1_every,
    )
    figures = {"critic_loss": loss, "real_sign": logits.sign().mean(), **penalty}
    return descend(state, "critic", gradients(total, state.critic), figures, (), process)


def generator_step(state: StyleGANVState, process: Process) -> Figures:
    """Minimise the non-saturating loss by one Adam step, then update the averages."""
    fake, times, w = generated(state, process, "generator")
    with autocast(state):
        logits = state.critic(seen(state, fake, "generator", process), times)
    loss = logistic_generator(wide(logits))
    mean = w.detach().mean(0)
    figures = descend(state, "motion", gradients(loss, state.motion), {"generator_loss": loss}, (mean,), process)
    follow(state, mean)
    return figures


def generated(state: StyleGANVState, process: Process, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Generate this rank's part of a global batch: clips [B, T, 3, R, R], their times [B, T] and w [B, D]."""
    config = state.config
    own = own_part(state, process)
    times = draw_times(config.batch, config.window, stream(state, f"{name} times", device="cpu"), config.frames)
    noise = state.motion.draw_at(config.batch, times, stream(state, name))
    codes = state.motion.codes(noise[own].at(noise.times[own]))
    with autocast(state):
        pictures = state.motion.pictures(codes.flatten(0, 1))
    clips = wide(pictures).unflatten(0, codes.shape[:2])
    return clips, times[own].to(state.device), codes[:, 0, : config.width]


def seen(state: StyleGANVState, clips: Tensor, name: str, process: Process) -> Tensor:
    """Augment clips for the discriminator with ADA's probability."""
    p = float(state.adaptation.p)
    if p == 0:
        return clips
    drawn = augment.draw(state.config.batch, p, stream(state, f"augment {name}"))
    return augment.augment(clips, drawn[own_part(state, process)])


@torch.no_grad()
def follow(state: StyleGANVState, w: Tensor) -> None:
    """Update the EMA, and the running mean of w by the batch's mean [D]."""
    batch = state.config.batch
    decay = min(state.config.ema, ema_decay(batch, state.step * batch, half_life=math.inf))
    move_average(state, decay)
    state.motion.synthesis.w_avg.lerp_(w, 1 - W_DECAY)
    state.ema.synthesis.w_avg.copy_(state.motion.synthesis.w_avg)


def ema_decay(batch: int, seen: int, half_life: float = 20_000, ramp: float = 0.05) -> float:
    """Decay of one step of `batch` clips after `seen` clips.

    The half-life is `half_life` clips, or `ramp` times the clips seen if that is fewer.
    """
    return 0.5 ** (batch / max(min(half_life, ramp * seen), 1e-8))
