"""The principal directions V of W and their standard deviations sigma, along which motion moves codes (paper, Eq. 2).

The released code fits them to a million samples of the mapping network. Here the moments of these samples are
accumulated in float64, so memory does not grow with their number, and diagonalised once.

Axes: N sample, D width of W.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from svgan.errors import UserError
from svgan.images.stylegan2 import EqualLinear, Generator
from svgan.latents.spaces import MappingNetwork, WSpace
from svgan.torch_utils import rng

CHUNK = 4000  # samples per chunk, as in the released code
LEAST = 1e-8


def mapping_of(generator: Generator) -> MappingNetwork:
    """Return the generator's mapping network; its outputs equal those of Generator.map."""
    made = MappingNetwork(len(generator.mapping), generator.config.w_dim).to(generator.w_avg.device)
    for number, layer in enumerate(generator.mapping):
        assert isinstance(layer, EqualLinear)
        made.weight[number] = layer.weight.detach() * layer.gain
        made.bias[number] = layer.bias.detach() * layer.lr
    return made


@torch.no_grad()
def samples(mapping: MappingNetwork, count: int, seed: int) -> Iterator[Tensor]:
    """Yield `count` codes w of random subjects in chunks [<= 4000, D]; a seed gives the same codes on every device."""
    width = mapping.weight.shape[-1]
    for number, first in enumerate(range(0, count, CHUNK)):
        z = torch.randn(CHUNK, width, generator=rng.generator("cpu", seed, "basis", number))
        yield mapping(z[: count - first].to(mapping.weight))


def moments(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] (with 1/N) of rows in chunks [n, D], in float64 and in the memory of one chunk."""
    count, shift = 0, torch.zeros(())
    for part in parts:
        rows = part.double()
        if not count:
            shift = rows.mean(0)
            first, second = torch.zeros_like(shift), torch.zeros(len(shift), len(shift)).to(rows)
        rows = rows - shift  # near 0, so that the difference below loses no digits
        first, second, count = first + rows.sum(0), second + rows.T @ rows, count + len(rows)
    if not count:
        raise UserError("mapping_samples: no sample of W; give 2 or more")
    off = first / count
    return shift + off, second / count - torch.outer(off, off)


def principal(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Principal axes V [D, D] as orthonormal rows, largest variance first, and standard deviations [D] along them.

    The largest entry of an axis is positive, so the same codes give the same axes.
    """
    variances, vectors = torch.linalg.eigh(covariance)
    axes = vectors.T.flip(0)
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return axes * torch.where(largest < 0, -1.0, 1.0), variances.flip(0).clamp_min(0).sqrt()


def explained(sigma: Tensor, components: int) -> float:
    """The share of W's variance along the first `components` axes."""
    return float(sigma[:components].square().sum() / sigma.square().sum())


def w_space(generator: Generator, count: int, seed: int) -> WSpace:
    """Return the generator's W space, with axes fitted to `count` random subjects; on the CPU."""
    config, mapping = generator.config, mapping_of(generator)
    mean, covariance = moments(samples(mapping, count, seed))
    axes, sigma = principal(covariance.cpu())
    space = WSpace(config.num_layers, config.w_dim, config.mapping_layers)
    space.mapping.load_state_dict(mapping.state_dict())
    largest = max(float(sigma[0]), LEAST)
    space.mean.copy_(mean.cpu().repeat(config.num_layers))
    space.axes.copy_(axes)
    space.scale.fill_(largest)
    space.spread.copy_(sigma / largest)
    return space
