"""Closed forms of a critic's scores, its gradient penalty, and the gradients of both (training/losses.py defines them).

Three passes go through the critic:
1. Forward: fake clips, real clips and the interpolated clips between them, in one batch.
2. Backward: the gradients of all three in one batch. They start from -1/B and 1/B for the loss, and from 1 for the
   penalty, which wants their norm near 1.
3. JVP: the derivative of the penalty along its own gradient, for the interpolated clips (linear_chain.jvp_in_place).

The tconv critic is one linear chain. For multiscale and holistic, the per-frame MLP E is a chain, and holds most of the
work; autograd differentiates the head behind it twice. That head must be piecewise linear too. Every other critic goes
to the plain `step.critic_step`.

Two products are avoided. An interpolated clip's first pre-activation lies between those of its fake and its real clip.
Where it is cheaper, the first weight W multiplies the features that the generator's affine A takes, as W A, instead of
the codes (docs/papers.md).
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
    """Generated clips: features [B, T, R] and the affine that maps them to codes.

    codes [B, T, K]: set where computing them is cheaper than avoiding them.
    """

    features: Tensor
    affine: Layer
    codes: Tensor | None


class LinearCritic(NamedTuple):
    """A critic as a chain of layers with their modules, and a head behind them if the chain ends in features."""

    layers: list[Layer]
    owners: list[nn.Linear | nn.Conv1d]
    head: Head | None
    head_parameters: list[nn.Parameter]

    @classmethod
    @torch.no_grad()
    def from_module(cls, critic: nn.Module) -> LinearCritic | None:
        """Returns None for a critic without a closed form."""
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
    """Whether W A on features takes fewer multiplications than W on codes, forward and backward."""
    codes, features = affine.weight.shape
    hidden = len(first.weight)
    return 2 * (codes + frames) * features * hidden < frames * codes * (features + 2 * hidden)


def folded(affine: Layer, first: Layer) -> Layer:
    """The critic's first layer composed with the generator's affine."""
    weight, bias = first.weight @ affine.weight, torch.addmv(first.bias, first.weight, affine.bias)
    return Layer(weight, bias, first.leaky)


class Backward(NamedTuple):
    """A backward pass: scores [N]; by[l], the gradients at layer l's pre-activations; by_head, the gradient at the
    head's input, from which autograd can continue.
    """

    scores: Tensor
    by: list[Tensor]
    by_head: Tensor | None


def vjp(critic: LinearCritic, path: Path, seeds: Tensor, again: bool = False) -> Backward:
    """The gradients of the sum of seeds [N] times scores, for clips that have a forward pass."""
    ends = path.out[-1]
    if critic.head is None:
        return Backward(ends.flatten(), linear_chain.backward(critic.layers, path, seeds[:, None, None].clone()), None)
    with torch.enable_grad():
        features = ends.clone().requires_grad_()
        scores = critic.head(features)
        (by_features,) = torch.autograd.grad(scores, features, seeds, create_graph=again)
    by = linear_chain.backward(critic.layers, path, by_features.detach().clone())
    return Backward(scores, by, by_features)


def critic_gradients(
    module: nn.Module, critic: LinearCritic, real: Tensor, fakes: Fakes, eps: Tensor, gp_weight: float
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The gradients of E[C(fake)] - E[C(real)] + lambda_GP L_GP in the order of module.parameters(), and the figures.

    real [B, T, K]; eps [B]: the interpolation weights.
    """
    # Forward and backward passes of fake, real and interpolated clips.
    clips, first, rows = len(real), critic.layers[0], real[..., 0].numel()
    path = _through(critic, real, fakes, eps)
    ones = eps.new_ones(clips)
    backward = vjp(critic, path, torch.cat([ones / clips, -ones / clips, ones]), again=True)
    # The penalty's gradient at its own gradient is the direction of the JVP; then all weight gradients.
    with torch.no_grad():
        wish = path.fed[0][-rows:]
        torch.mm(backward.by[0][-rows:], first.weight, out=wish)
        length = wish.view(clips, -1).norm(dim=1)
        scale = torch.where(length > 0, 2 * gp_weight / clips * (length - 1) / length, 0)
        wish.view(clips, -1).mul_(scale[:, None])
        linear_chain.jvp_in_place(critic.layers, path, 2 * clips, wish @ first.weight.T)
        found = _by_layers(critic, backward, path, fakes, rows)
    fake, real_score = backward.scores.detach()[: 2 * clips].chunk(2)
    loss = losses.wasserstein_critic(real_score, fake)
    # A head takes its share of the same three terms by autograd.
    if backward.by_head is not None:
        moved = (backward.by_head[2 * clips :] * path.out[-1][2 * clips :]).sum()
        total = backward.scores[:clips].mean() - backward.scores[clips : 2 * clips].mean() + moved
        found |= dict(zip(critic.head_parameters, torch.autograd.grad(total, critic.head_parameters), strict=True))
    figures = {"critic_loss": loss, "gradient_penalty": (length - 1).square().mean()}
    return [found[parameter] for parameter in module.parameters()], figures


@torch.no_grad()
def _through(critic: LinearCritic, real: Tensor, fakes: Fakes, eps: Tensor) -> Path:
    """The forward pass of fake, real and interpolated clips, [3 B, T, ...].

    The first layer's rows hold the fakes if they are codes, the reals, and room for the JVP of the interpolated clips.
    """
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
    out = first.activate(a.flatten(0, 1))
    path = Path([fed.view(-1, width)], [out])
    linear_chain.extend(critic.layers[1:], path, out)
    return path


def _by_layers(critic: LinearCritic, backward: Backward, path: Path, fakes: Fakes, rows: int) -> dict[Tensor, Tensor]:
    """The gradients of the layers' weights and biases. rows: B T."""
    found: dict[Tensor, Tensor] = {}
    for layer, owner, by, fed in zip(critic.layers, critic.owners, backward.by, path.fed, strict=True):
        of_loss = by[: 2 * len(by) // 3]
        found[cast(Tensor, owner.bias)] = of_loss.sum(0)
        found[owner.weight] = linear_chain.weight_gradient(layer, by[len(by) - len(fed) :], fed).view_as(owner.weight)
    if fakes.codes is None:
        first, by = critic.owners[0], backward.by[0][:rows]
        found[first.weight].addmm_(by.T @ fakes.features.flatten(0, 1), fakes.affine.weight.T)
        found[first.weight].addr_(by.sum(0), fakes.affine.bias)
    return found


@torch.no_grad()
def generator_vjp(module: nn.Module, fakes: Fakes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss -E[C(fake)], and its gradients: features [B T, R], A's weight [K, R] and bias [K]."""
    features, affine = fakes.features.flatten(0, 1), fakes.affine
    critic = LinearCritic.from_module(module)
    if critic is None or fakes.codes is not None:
        codes = (features @ affine.weight.T).add_(affine.bias) if fakes.codes is None else fakes.codes.flatten(0, 1)
        loss, by_codes = _by_codes(module, critic, codes.view(*fakes.features.shape[:2], -1))
        return loss, by_codes @ affine.weight, by_codes.T @ features, by_codes.sum(0)
    first, joint = critic.layers[0], folded(affine, critic.layers[0])
    path = linear_chain.forward([joint, *critic.layers[1:]], fakes.features)
    loss, by = _loss(critic, path)
    return loss, by @ joint.weight, first.weight.T @ (by.T @ features), by.sum(0) @ first.weight


def _by_codes(module: nn.Module, critic: LinearCritic | None, codes: Tensor) -> tuple[Tensor, Tensor]:
    if critic is not None:
        loss, by = _loss(critic, linear_chain.forward(critic.layers, codes))
        return loss, by @ critic.layers[0].weight
    with torch.enable_grad():
        codes = codes.requires_grad_()
        loss = losses.wasserstein_generator(module(codes))
        return loss.detach(), torch.autograd.grad(loss, codes)[0].flatten(0, 1)


def _loss(critic: LinearCritic, path: Path) -> tuple[Tensor, Tensor]:
    """-E[C(fake)] of clips that have a forward pass, and its gradient at the first layer's pre-activations."""
    clips = len(path.out[0])
    backward = vjp(critic, path, path.out[0].new_full((clips,), -1 / clips))
    return losses.wasserstein_generator(backward.scores.detach()), backward.by[0]
