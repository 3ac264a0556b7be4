"""The workers of a training step: their number, and averages over them.

Modules are not wrapped in DistributedDataParallel: gradient penalties differentiate twice, and the hooks of a wrapped
module do not support that (docs/papers.md#first-measurements). Gradients are averaged after the backward pass, in one
flat exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Process(Protocol):
    rank: int
    world: int

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its mean over all ranks, in one exchange; shapes must be equal on all ranks.

        A NaN or infinity on one rank reaches all ranks, so that later checks agree.
        """
        ...

    def any(self, flag: bool) -> bool:
        """Return True on every rank if the flag is true on any rank."""
        ...

    def greatest(self, numbers: Sequence[float]) -> list[float]:
        """Return, on every rank, the greatest of each number over all ranks, in float32."""
        ...


class Single:
    """The only worker."""

    rank, world = 0, 1

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        pass

    def any(self, flag: bool) -> bool:
        return flag

    def greatest(self, numbers: Sequence[float]) -> list[float]:
        return list(numbers)


class TorchProcess:
    """A rank of torch.distributed's default group, which must be initialised."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.rank = torch.distributed.get_rank()
        self.world = torch.distributed.get_world_size()
        self.device = torch.device(device)

    @torch.no_grad()
    def mean_(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.cat([t.flatten() for t in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def any(self, flag: bool) -> bool:
        count = torch.tensor(float(flag), device=self.device)
        torch.distributed.all_reduce(count)
        return bool(count > 0)

    def greatest(self, numbers: Sequence[float]) -> list[float]:
        values = torch.tensor(numbers, dtype=torch.float32, device=self.device)
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
        return [float(value) for value in values]


SINGLE = Single()


def current_process(device: torch.device | str = "cpu") -> Process:
    """Return the rank in the initialised torch.distributed group, else the single worker."""
    started = torch.distributed.is_available() and torch.distributed.is_initialized()
    return TorchProcess(device) if started else SINGLE
