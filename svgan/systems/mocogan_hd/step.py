"""One step of MoCoGAN-HD: the critics once, then the generator n_generator times on the same real clips.

`svgan.training.draws` defines how a step draws random numbers, `svgan.training.optimize` how it updates weights. The
relativistic losses compare with mean scores. These are means over the global batch, so w workers learn the same as one.
The contrastive loss uses the rank's own batch and the queue, which holds the keys of all ranks.

Axes: B clip, T frame, S pixels of the critics' frames, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from svgan.motion.noise import Noise
from svgan.systems.mocogan_hd import losses
from svgan.systems.mocogan_hd.augment import Augmentation, augmented, draw_augmentation
from svgan.systems.mocogan_hd.critics import EmbeddingCritic, PatchCritic, follow_slowly, frames_at, video_input
from svgan.systems.mocogan_hd.source import FrameSource
from svgan.systems.mocogan_hd.state import MoCoState
from svgan.torch_utils import rng
from svgan.torch_utils.distributed import Process
from svgan.training import losses as shared
from svgan.training.draws import draw_noise, own_part, stream
from svgan.training.optimize import autocast, descend, gradients, move_average

Figures = dict[str, Tensor]


def iterate(state: MoCoState, source: FrameSource, process: Process) -> Figures:
    """Train critics and generator once, in place; return metrics as 0-d tensors, means over ranks.

    Metrics of the generator are those of its last turn. Raises NonFiniteLoss as `svgan.training.optimize.descend` does.
    """
    config, where = state.config, {"rank": process.rank, "world": process.world}
    real = source.draw(config.batch, seed=config.seed, step=state.step, **where)
    figures = critic_step(state, source, real, process)
    for turn in range(config.n_generator):
        figures |= generator_step(state, source, real, process, turn)
    return figures


def critic_step(state: MoCoState, source: FrameSource, real: Tensor, process: Process) -> Figures:
    """Take one Adam step with each critic; after the image critic, update the momentum encoder."""
    figures: Figures = {}
    with torch.no_grad():
        codes, _, _ = state.motion(draw_noise(state, process, "critic", 0))
        fake = rendered(state, source, codes)
    if state.video_critic is not None:
        figures |= video_critic_step(state, state.video_critic, real, fake, process)
    if isinstance(state.image_critic, PatchCritic):
        figures |= pair_critic_step(state, state.image_critic, real, fake, process)
    elif state.image_critic is not None:
        figures |= embedding_critic_step(state, state.image_critic, fake, process)
    return figures


def video_critic_step(state: MoCoState, critic: PatchCritic, real: Tensor, fake: Tensor, process: Process) -> Figures:
    """Minimise the clip critic's RaLSGAN loss (form 'paper': logistic loss) plus lambda_GP times its gradient
    penalty.
    """
    config = state.config
    eps = torch.rand(config.batch, generator=stream(state, "eps", 0), device=state.device)[own_part(state, process)]
    real, fake = (seen(state, clips, name, 0) for name, clips in (("real", real), ("fake", fake)))
    with autocast(state):
        loss = patch_loss(state, critic(real), critic(fake), process, generator=False)
        total, figures = loss, {"video_critic_loss": loss}
        if config.gp_weight > 0:
            penalty = losses.channel_gradient_penalty(critic, real, fake, eps)
            total, figures = total + config.gp_weight * penalty, figures | {"gradient_penalty": penalty}
    return descend(state, "video_critic", gradients(total, critic), figures, (), process)


def pair_critic_step(state: MoCoState, critic: PatchCritic, real: Tensor, fake: Tensor, process: Process) -> Figures:
    """Minimise the image critic's RaLSGAN loss on pairs of a first and a later frame."""
    at = later_frame(state, process, "critic", 0)
    with autocast(state):
        loss = patch_loss(state, critic(pair(real, at)), critic(pair(fake, at)), process, generator=False)
    return descend(state, "image_critic", gradients(loss, critic), {"image_critic_loss": loss}, (), process)


def embedding_critic_step(state: MoCoState, critic: EmbeddingCritic, fake: Tensor, process: Process) -> Figures:
    """Minimise the embedding critic's adversarial and contrastive losses; then update the momentum encoder.

    The adversarial loss is the hinge loss (form 'paper': logistic). A generated clip's first frame counts as real and a
    later one as fake. The contrastive loss compares two augmentations of each frame.
    """
    config, count = state.config, len(fake)
    first, later = fake[:, 0], frames_at(fake, later_frame(state, process, "critic", 0))
    views = torch.cat(
        [
            augmented(frames, augmentation(state, process, f"critic {view} {name}", 0))
            for view in "ab"
            for name, frames in (("first", first), ("later", later))
        ]
    )
    figures: Figures = {}
    total = torch.zeros((), device=state.device)
    with autocast(state):
        scores, embeddings = critic(views)
    first_a, later_a, first_b, later_b = shared.wide(embeddings).split(count)
    if config.image_weight > 0:
        adversarial = losses.hinge_critic if config.form == "code" else losses.logistic_critic
        total = adversarial(scores[:count], scores[count : 2 * count])
        figures["image_critic_loss"] = total
    if config.contrastive_weight > 0:
        if state.real_keys is not None and state.fake_keys is not None:
            tau = config.temperature
            contrast = losses.info_nce(first_a, first_b, tau, state.real_keys.keys)
            contrast = contrast + losses.info_nce(later_a, later_b, tau, state.fake_keys.keys)
        else:
            contrast = losses.contrastive(later_a, later_b, config.temperature)
        total, figures["contrastive"] = total + config.contrastive_weight * contrast, contrast
    if not figures:  # F is used for the matching only, and is not trained
        return {}
    figures = descend(state, "image_critic", gradients(total, critic), figures, (), process)
    if state.slow is not None:
        follow_slowly(state.slow, critic, config.momentum)
    return figures


def generator_step(state: MoCoState, source: FrameSource, real: Tensor, process: Process, turn: int) -> Figures:
    """Minimise the critics' terms - lambda_m L_m - lambda_f L_f by one Adam step, then update the EMA."""
    config = state.config
    noise: Noise = draw_noise(state, process, "generator", turn)
    codes, hidden, cells = state.motion(noise)
    fake = rendered(state, source, codes)
    total, figures = torch.zeros((), device=state.device), {}
    if state.video_critic is not None:
        scores = {}
        with autocast(state):
            for name, clips in (("real", real), ("fake", fake)):
                with torch.set_grad_enabled(name == "fake"):
                    scores[name] = state.video_critic(seen(state, clips, name, 1 + turn))
            loss = patch_loss(state, scores["real"], scores["fake"], process, generator=True)
        total, figures["video_loss"] = total + config.video_weight * loss, loss
    if state.image_critic is not None:
        image_total, image_figures = image_terms(state, state.image_critic, real, fake, process, turn)
        total, figures = total + image_total, figures | image_figures
    if config.information_weight > 0:
        information = losses.cosine(state.generator["guess"](hidden, cells), noise.s)
        total, figures["information"] = total - config.information_weight * information, information
    figures["generator_loss"] = total
    figures = descend(state, "generator", gradients(total, state.generator), figures, (), process)
    move_average(state, config.ema)
    return figures


def image_terms(
    state: MoCoState,
    critic: PatchCritic | EmbeddingCritic,
    real: Tensor,
    fake: Tensor,
    process: Process,
    turn: int,
) -> tuple[Tensor, Figures]:
    """Return the generator's weighted loss for the image critic and its parts as metrics; push the keys into the
    queues.
    """
    config, at = state.config, later_frame(state, process, "generator", turn)
    if isinstance(critic, PatchCritic):
        with autocast(state):
            with torch.no_grad():
                real_scores = critic(pair(real, at))
            loss = patch_loss(state, real_scores, critic(pair(fake, at)), process, generator=True)
        return config.image_weight * loss, {"image_loss": loss}
    total, figures = torch.zeros((), device=state.device), {}
    first, later = fake[:, 0].detach(), frames_at(fake, at)
    if config.image_weight > 0:
        with autocast(state):
            scores, _ = critic(augmented(later, augmentation(state, process, "generator", turn)))
        loss = losses.hinge_generator(scores) if config.form == "code" else losses.logistic_generator(scores)
        total, figures["image_loss"] = config.image_weight * loss, loss
    if config.matching_weight > 0:
        with autocast(state):
            _, embeddings = critic(torch.cat([first, later]))
        matching = losses.cosine(*shared.wide(embeddings).chunk(2))
        total, figures["matching"] = total - config.matching_weight * matching, matching
    if state.slow is not None and state.real_keys is not None and state.fake_keys is not None:
        with torch.no_grad():
            keys = state.slow(torch.cat([first, later]))[1]
            for queue, own in zip((state.real_keys, state.fake_keys), keys.chunk(2), strict=True):
                queue.push(of_all_ranks(own, process))
    return total, figures


def patch_loss(
    state: MoCoState, real: Sequence[Tensor], fake: Sequence[Tensor], process: Process, *, generator: bool
) -> Tensor:
    """Compute the RaLSGAN loss (form 'paper': logistic loss) of score maps, summed over the scales."""
    pairs = list(zip(real, fake, strict=True))
    if state.config.form == "paper":
        parts = [losses.logistic_generator(f) if generator else losses.logistic_critic(r, f) for r, f in pairs]
        return torch.stack(parts).sum()
    moments = of_global_batch(torch.stack([losses.score_moments(r, f) for r, f in pairs]), process)
    return losses.relativistic(losses.swapped(moments) if generator else moments)


def of_global_batch(means: Tensor, process: Process) -> Tensor:
    """Replace the values of means by those of the global batch, but keep this rank's gradients.

    The average of these gradients over ranks is the gradient of the global batch.
    """
    everyones = means.detach().clone()
    process.mean_([everyones])
    return means + (everyones - means.detach())


def of_all_ranks(own: Tensor, process: Process) -> Tensor:
    """Gather equal-sized parts [n, E] of all ranks, in order, as [n world, E]."""
    gathered = own.new_zeros(len(own) * process.world, *own.shape[1:])
    gathered[rng.own_slice(len(gathered), process.rank, process.world)] = own * process.world
    process.mean_([gathered])
    return gathered


def rendered(state: MoCoState, source: FrameSource, codes: Tensor) -> Tensor:
    """Render codes [B, T, D], in the space's units, as frames [B, T, 3, S, S]."""
    with autocast(state):
        frames = source.render(state.space.decode(codes).flatten(0, 1))
    return frames.unflatten(0, codes.shape[:2])


def seen(state: MoCoState, clips: Tensor, name: str, turn: int) -> Tensor:
    """Arrange clips for the clip critic, randomly reversed in time."""
    shown = video_input(clips, pairs=state.config.mode == "in-domain")
    return losses.flipped_in_time(shown, stream(state, f"flip {name}", turn, device="cpu"))


def pair(clips: Tensor, at: Tensor) -> Tensor:
    """Concatenate first frames and frames at[b] on the channel axis: [B, 6, S, S]."""
    return torch.cat([clips[:, 0], frames_at(clips, at)], 1)


def later_frame(state: MoCoState, process: Process, name: str, turn: int) -> Tensor:
    """Draw a frame other than the first for each clip of this rank, [B]."""
    config = state.config
    g = stream(state, f"frame {name}", turn)
    at = torch.randint(1, config.window, (config.batch,), generator=g, device=state.device)
    return at[own_part(state, process)]


def augmentation(state: MoCoState, process: Process, name: str, turn: int) -> Augmentation:
    """Draw augmentations for the global batch; return this rank's part."""
    drawn = draw_augmentation(state.config.batch, stream(state, f"augment {name}", turn))
    return drawn[own_part(state, process)]
