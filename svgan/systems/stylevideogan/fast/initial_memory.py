"""Closed forms of H, which makes the GRU's initial memories (Fox et al. 2021, section 3.2): JVP and gradients.

Let u be the output of H's layers, x = u - mean u and s = 1 / sqrt(mean x^2 + eps). A memory is y = s x, normalised per
sample, and its JVP is y' = s (x' - y mean(y x')). The JVP of torch's own layer norm has a wrong gradient (torch 2.13;
docs/traps.md).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from svgan.motion.gru import GRUMotion
from svgan.motion.recurrence import CELLS
from svgan.systems.stylevideogan.fast import linear_chain
from svgan.systems.stylevideogan.fast.linear_chain import Layer, Path, layers_of


class MemoryJVP(NamedTuple):
    """The JVP of the initial memory: memory [4, B, width], the layers' path, and x [B, 3, width]."""

    memory: Tensor
    path: Path
    centred: Tensor


class InitialMemory(NamedTuple):
    """The initial memory [4, B, width]: three memories y, then i. scale: s; normal: y, [B, 3, ...]."""

    memory: Tensor
    layers: list[Layer]
    path: Path
    normal: Tensor
    scale: Tensor

    @classmethod
    @torch.no_grad()
    def compute(cls, motion: GRUMotion, i: Tensor) -> InitialMemory:
        layers = layers_of(motion.hallucinate)
        path = linear_chain.forward(layers, i[:, None])
        x = centred(path.out[-1].view(len(i), CELLS - 1, -1))
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)
        return cls(_with(x * scale, i), layers, path, x * scale, scale)

    @torch.no_grad()
    def input_gradient(self, by_memory: Tensor) -> Tensor:
        """The gradient of i [B, width], given by_memory [4, B, width]."""
        by = self._back(self._by_centred(by_memory[:-1].transpose(0, 1)))
        return torch.addmm(by_memory[-1], by[0], self.layers[0].weight)

    @torch.no_grad()
    def jvp(self, i: Tensor) -> MemoryJVP:
        """The JVP with the direction i [B, width]."""
        path = linear_chain.jvp(self.layers, self.path, i[:, None])
        x = centred(path.out[-1].view_as(self.normal))
        return MemoryJVP(_with(self._by_centred(x), i), path, x)

    @torch.no_grad()
    def weight_gradients(
        self, by_memory: Tensor, moved: MemoryJVP | None = None, by_moved: Tensor | None = None
    ) -> list[Tensor]:
        """Gradients of H's parameters, given by_memory [4, B, width] and, for a JVP, by_moved at the memory's JVP."""
        by_normal, normal = by_memory[:-1].transpose(0, 1), self.normal
        if moved is None or by_moved is None:
            return self._products(self._back(self._by_centred(by_normal)), None, [])
        by, ours = by_moved[:-1].transpose(0, 1), moved.memory[:-1].transpose(0, 1)
        by_normal = by_normal - self.scale * (by * _mean(normal, moved.centred) + moved.centred * _mean(by, normal))
        by_x = self.scale * (by_normal - normal * (_mean(by, ours) + _mean(by_normal, normal)))
        return self._products(self._back(by_x), moved.path, self._back(self._by_centred(by)))

    def _by_centred(self, by: Tensor) -> Tensor:
        """From a gradient at y to one at x, and from a JVP of x to one of y: the map is symmetric."""
        return self.scale * (by - self.normal * _mean(by, self.normal))

    def _back(self, by_centred: Tensor) -> list[Tensor]:
        return linear_chain.backward(self.layers, self.path, centred(by_centred).flatten(1)[:, None])

    def _products(self, by: list[Tensor], moved: Path | None, by_moved: list[Tensor]) -> list[Tensor]:
        found: list[Tensor] = []
        for at, one in enumerate(by):
            weight = one.T @ self.path.fed[at]
            found += [weight if moved is None else weight.addmm_(by_moved[at].T, moved.fed[at]), one.sum(0)]
        return found


def centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _mean(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).mean(-1, keepdim=True)


def _with(hallucinated: Tensor, i: Tensor) -> Tensor:
    """[B, 3, width] and [B, width] as [4, B, width]."""
    return torch.cat([hallucinated, i[:, None]], 1).transpose(0, 1).contiguous()
