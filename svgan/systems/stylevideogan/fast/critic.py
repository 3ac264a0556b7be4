"""A critic's scores, its gradient penalty and the gradients of both, by hand (losses.py says what they are).

Fakes, reals and the points between them go through the critic together, and so do their gradients on the way back:
from -1/B and 1/B the loss's, from 1 those that the penalty wants near 1. What the penalty then asks of the points
between is a movement forwards (chain.along).

All of tconv is one chain. Of multiscale and holistic E is, where the work is; what judges its features is a head that
automatic differentiation sees, twice, which must be linear between bends too. Any other critic is left to
`step.critic_step`.

The linear parts at either end are not computed where they need not be: a point's first pre-activation is between
those of its fake and its real; and where that is less work, the first weights W act on what the generator's affine A
got, as W A, instead of on codes (performance.md).
Axes: B clip, T frame, K width of the space, R width of T's last features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from svgan.systems.stylevideogan.critics.tconv import TConvCritic
from svgan.systems.stylevideogan.fast import linear_chain
from svgan.systems.stylevideogan.fast.linear_chain import Layer, Path, layers_of
from svgan.training import losses

Head = Callable[[Tensor], Tensor]


class Fakes(NamedTuple):
    """Generated clips: features [B, T, R], which the affine makes codes of; the codes [B, T, K] where they are
    cheaper to have than to avoid."""

    features: Tensor
    affine: Layer
    codes: Tensor | None


class ByHand(NamedTuple):
    """A critic: layers, the modules they are of, and a head behind them unless they end in the score."""

    layers: list[Layer]
    owners: list[nn.Linear | nn.Conv1d]
    head: Head | None
    head_parameters: list[nn.Parameter]

    @classmethod
    @torch.no_grad()
    def of(cls, critic: nn.Module) -> ByHand | None:
        """None where the critic is not one that this file knows."""
        try:
            if isinstance(critic, TConvCritic):
                layers = layers_of(critic.frame, critic.time)
                channels, weight = len(layers[-1].weight), critic.score.weight
                ends = weight.view(channels, -1).T.reshape(1, -1)
                layers.append(Layer(ends, critic.score.bias, kernel=weight.shape[1] // channels))
                return cls(layers, _owners(critic), None, [])
            frame, judge = getattr(critic, "frame", None), getattr(critic, "judge", None)
            if not isinstance(frame, nn.Sequential) or not callable(judge):
                return None
            others = [layer for name, part in critic.named_children() if name != "frame" for layer in _leaves(part)]
            if not all(isinstance(layer, nn.Linear | nn.Conv1d | nn.LeakyReLU) for layer in others):
                return None
            theirs = {id(p) for p in frame.parameters()}
            return cls(layers_of(frame), _owners(frame), judge, [p for p in critic.parameters() if id(p) not in theirs])
        except TypeError:
            return None


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if not list(part.children())]


def _owners(module: nn.Module) -> list[nn.Linear | nn.Conv1d]:
    return [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv1d)]


def folding_pays(frames: int, affine: Layer, first: Layer) -> bool:
    """Whether W A on features is fewer multiplications than W on codes, there and back."""
    codes, features = affine.weight.shape
    hidden = len(first.weight)
    return 2 * (codes + frames) * features * hidden < frames * codes * (features + 2 * hidden)


def folded(affine: Layer, first: Layer) -> Layer:
    """The critic's first layer after the generator's affine."""
    weight, bias = first.weight @ affine.weight, torch.addmv(first.bias, first.weight, affine.bias)
    return Layer(weight, bias, first.bent)


class Pulled(NamedTuple):
    """What a critic says of clips and how it wants them: scores [N]; by[l], gradients by layer l's linear outputs;
    by_head: the gradient by the head's input, which automatic differentiation can go on from."""

    scores: Tensor
    by: list[Tensor]
    by_head: Tensor | None


def pull(critic: ByHand, path: Path, seeds: Tensor, again: bool = False) -> Pulled:
    """Of clips that have gone through the layers: the gradients of the sum of seeds [N] times scores."""
    ends = path.out[-1]
    if critic.head is None:
        return Pulled(ends.flatten(), linear_chain.back(critic.layers, path, seeds[:, None, None].clone()), None)
    with torch.enable_grad():
        features = ends.clone().requires_grad_()
        scores = critic.head(features)
        (by_features,) = torch.autograd.grad(scores, features, seeds, create_graph=again)
    by = linear_chain.back(critic.layers, path, by_features.detach().clone())
    return Pulled(scores, by, by_features)


def critic_gradients(
    module: nn.Module, critic: ByHand, real: Tensor, fakes: Fakes, eps: Tensor, gp_weight: float
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Of E[C(fake)] - E[C(real)] + lambda_GP L_GP by module.parameters(); loss and L_GP. real [B, T, K], eps [B]."""
    clips, first, rows = len(real), critic.layers[0], real[..., 0].numel()
    path = _through(critic, real, fakes, eps)
    ones = eps.new_ones(clips)
    pulled = pull(critic, path, torch.cat([ones / clips, -ones / clips, ones]), again=True)
    with torch.no_grad():
        wish = path.fed[0][-rows:]
        torch.mm(pulled.by[0][-rows:], first.weight, out=wish)
        length = wish.view(clips, -1).norm(dim=1)
        scale = torch.where(length > 0, 2 * gp_weight / clips * (length - 1) / length, 0)
        wish.view(clips, -1).mul_(scale[:, None])
        linear_chain.along(critic.layers, path, 2 * clips, wish @ first.weight.T)
        found = _by_layers(critic, pulled, path, fakes, rows)
    fake, real_score = pulled.scores.detach()[: 2 * clips].chunk(2)
    loss = losses.wasserstein_critic(real_score, fake)
    if pulled.by_head is not None:
        moved = (pulled.by_head[2 * clips :] * path.out[-1][2 * clips :]).sum()
        total = pulled.scores[:clips].mean() - pulled.scores[clips : 2 * clips].mean() + moved
        found |= dict(zip(critic.head_parameters, torch.autograd.grad(total, critic.head_parameters), strict=True))
    figures = {"critic_loss": loss, "gradient_penalty": (length - 1).square().mean()}
    return [found[parameter] for parameter in module.parameters()], figures


@torch.no_grad()
def _through(critic: ByHand, real: Tensor, fakes: Fakes, eps: Tensor) -> Path:
    """Fakes, reals and the points between them, [3 B, T, ...], gone through the layers. The first layer's rows: fakes
    where they are codes, reals, and room for the movement of the points between."""
    clips, frames, width = real.shape
    first, own = critic.layers[0], 0 if fakes.codes is None else 1
    fed = real.new_empty(own + 2, clips, frames, width)
    fed[own] = real
    a = real.new_empty(3, clips, frames, len(first.weight))
    if fakes.codes is None:
        joint = folded(fakes.affine, first)
        torch.addmm(joint.bias, fakes.features.flatten(0, 1), joint.weight.T, out=a[0].flatten(0, 1))
        torch.addmm(first.bias, real.flatten(0, 1), first.weight.T, out=a[1].flatten(0, 1))
    else:
        fed[0] = fakes.codes
        torch.addmm(first.bias, fed[:2].view(-1, width), first.weight.T, out=a[:2].view(-1, len(first.weight)))
    torch.lerp(a[0], a[1], eps[:, None, None], out=a[2])
    out = first.bend(a.flatten(0, 1))
    path = Path([fed.view(-1, width)], [out])
    linear_chain.onward(critic.layers[1:], path, out)
    return path


def _by_layers(critic: ByHand, pulled: Pulled, path: Path, fakes: Fakes, rows: int) -> dict[Tensor, Tensor]:
    """The gradients by the layers' weights. rows: B T."""
    found: dict[Tensor, Tensor] = {}
    for layer, owner, by, fed in zip(critic.layers, critic.owners, pulled.by, path.fed, strict=True):
        of_loss = by[: 2 * len(by) // 3]
        found[cast(Tensor, owner.bias)] = of_loss.sum(0)
        found[owner.weight] = linear_chain.by_weights(layer, by[len(by) - len(fed) :], fed).view_as(owner.weight)
    if fakes.codes is None:
        first, by = critic.owners[0], pulled.by[0][:rows]
        found[first.weight].addmm_(by.T @ fakes.features.flatten(0, 1), fakes.affine.weight.T)
        found[first.weight].addr_(by.sum(0), fakes.affine.bias)
    return found


@torch.no_grad()
def generator_pull(module: nn.Module, fakes: Fakes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of -E[C(fake)], the loss, and its gradients by the features [B T, R], A's weight [K, R] and bias [K]."""
    features, affine = fakes.features.flatten(0, 1), fakes.affine
    critic = ByHand.of(module)
    if critic is None or fakes.codes is not None:
        codes = (features @ affine.weight.T).add_(affine.bias) if fakes.codes is None else fakes.codes.flatten(0, 1)
        loss, by_codes = _by_codes(module, critic, codes.view(*fakes.features.shape[:2], -1))
        return loss, by_codes @ affine.weight, by_codes.T @ features, by_codes.sum(0)
    first, joint = critic.layers[0], folded(affine, critic.layers[0])
    path = linear_chain.forward([joint, *critic.layers[1:]], fakes.features)
    loss, by = _loss(critic, path)
    return loss, by @ joint.weight, first.weight.T @ (by.T @ features), by.sum(0) @ first.weight


def _by_codes(module: nn.Module, critic: ByHand | None, codes: Tensor) -> tuple[Tensor, Tensor]:
    if critic is not None:
        loss, by = _loss(critic, linear_chain.forward(critic.layers, codes))
        return loss, by @ critic.layers[0].weight
    with torch.enable_grad():
        codes = codes.requires_grad_()
        loss = losses.wasserstein_generator(module(codes))
        return loss.detach(), torch.autograd.grad(loss, codes)[0].flatten(0, 1)


def _loss(critic: ByHand, path: Path) -> tuple[Tensor, Tensor]:
    """-E[C(fake)] of clips that have gone through the layers, and its gradient by the first one's linear outputs."""
    clips = len(path.out[0])
    pulled = pull(critic, path, path.out[0].new_full((clips,), -1 / clips))
    return losses.wasserstein_generator(pulled.scores.detach()), pulled.by[0]
