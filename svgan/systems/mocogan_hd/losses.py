"""The formulas of MoCoGAN-HD's training as pure functions. Critics minimise theirs, and so does the motion generator.

Source: paper and released code, docs/papers.md#mocogan-hd-losses.

Axes: B clip, n picture, E embedding, C channels, T frame, H x W pixels, Q queue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from svgan.training.losses import wide

TINY = 1e-12  # inside a square root, so that its gradient is finite at 0


def score_moments(real: Tensor, fake: Tensor) -> Tensor:
    """[4]: the means of r, r^2, f and f^2 over all scores. The relativistic losses depend on nothing else."""
    r, f = wide(real), wide(fake)
    return torch.stack([r.mean(), r.square().mean(), f.mean(), f.square().mean()])


def relativistic(moments: Tensor) -> Tensor:
    """1/2 {E[(r - E f - 1)^2] + E[(f - E r)^2]} from `score_moments` [..., 4], summed over the leading axes.

    The critic's loss of RaLSGAN with targets 1 and 0 (Jolicoeur-Martineau 2019), in the form of the released code.
    """
    r, r2, f, f2 = moments.unbind(-1)
    above = r2 - 2 * r * (f + 1) + (f + 1).square()
    below = f2 - 2 * f * r + r.square()
    return ((above + below) / 2).sum()


def swapped(moments: Tensor) -> Tensor:
    """Exchange real and fake in `score_moments`; `relativistic` of the result is the generator's loss of RaLSGAN."""
    return moments[..., [2, 3, 0, 1]]


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 - r)] + E[max(0, 1 + f)]."""
    return F.relu(1 - wide(real)).mean() + F.relu(1 + wide(fake)).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """-E[f]."""
    return -wide(fake).mean()


def logistic_critic(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(r)] - E[log(1 - D(f))] of logits: the negative of the paper's L_DV and L_DI, which its critics
    maximise.
    """
    return F.softplus(-wide(real)).mean() + F.softplus(wide(fake)).mean()


def logistic_generator(fake: Tensor) -> Tensor:
    """-E[log D(f)] of logits: the non-saturating form of L_DV and L_DI (Goodfellow et al. 2014)."""
    return F.softplus(-wide(fake)).mean()


def channel_gradient_penalty(
    critic: Callable[[Tensor], Sequence[Tensor]], real: Tensor, fake: Tensor, eps: Tensor
) -> Tensor:
    """E[(||grad D(x^)||_2 - 1)^2] at x^ = eps real + (1 - eps) fake, averaged over the critic's scales.

    real, fake [B, C, ...]; eps [B] in (0, 1). As in the released code, the norm is over the channel axis only, at every
    frame and pixel. Gulrajani et al. 2017 take the norm over all entries of a clip.
    """
    eps = eps.view(-1, *[1] * (real.ndim - 1))
    between = (eps * real + (1 - eps) * fake).detach().requires_grad_()
    penalties = []
    for scores in critic(between):
        (gradient,) = torch.autograd.grad(wide(scores).sum(), between, create_graph=True)
        norm = (gradient.square().sum(1) + TINY).sqrt()
        penalties.append((norm - 1).square().mean())
    return torch.stack(penalties).mean()


def info_nce(a: Tensor, b: Tensor, tau: float, queue: Tensor) -> Tensor:
    """The released code's contrastive loss of embeddings a, b [n, E] of two augmentations of the same frames.

    It is the mean over all 2 n embeddings of -log softmax of the partner's similarity / tau. The softmax runs over the
    other 2 n - 1 embeddings and the queue [Q, E]. As in the released code, the similarity of a vector with itself is
    set to 0 and stays in the softmax. All vectors have length 1.
    """
    both = torch.cat([a, b])
    own = torch.eye(len(both), dtype=torch.bool, device=both.device)
    logits = torch.cat([(both @ both.T).masked_fill(own, 0), both @ queue.T], 1) / tau
    partner = torch.arange(len(both), device=both.device).roll(len(a))
    return F.cross_entropy(logits, partner)


def contrastive(a: Tensor, b: Tensor, tau: float) -> Tensor:
    """The paper's L_contr of embeddings a, b [n, E] of length 1, without a queue:

        sum over i, alpha of -log(exp(cos(a_i, b_i) / tau) / sum over j != i, beta of exp(cos(alpha_i, beta_j) / tau))

    It is 0 for a single frame, which has no negatives.
    """
    if len(a) < 2:
        return 0 * (a * b).sum()
    others = ~torch.eye(len(a), dtype=torch.bool, device=a.device)
    total = torch.zeros((), device=a.device, dtype=a.dtype)
    for mine, theirs in ((a, b), (b, a)):
        logits = torch.stack([mine @ mine.T, mine @ theirs.T], -1) / tau
        against = logits[others].view(len(a), -1).logsumexp(1)
        total = total + (against - (a * b).sum(1) / tau).sum()
    return total


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """The mean cosine along the last axis; the generator maximises it.

    L_m is the cosine of H's output and eps, L_f that of F's embeddings of a later frame and of the first one.
    """
    return F.cosine_similarity(wide(x), wide(y), dim=-1).mean()


def flipped_in_time(x: Tensor, generator: torch.Generator) -> Tensor:
    """Reverse clips [B, C, T, H, W] in time with probability 1/2, all clips of a call together."""
    return x.flip(2) if bool(torch.rand((), generator=generator, device=generator.device) < 0.5) else x
