"""The fast `iterate` of one worker on a GPU as a CUDA graph: one launch in place of some three thousand.

A graph repeats the GPU operations of one iteration on the same memory, without the Python program that issued them. Two
things differ from step to step. The random draws are made as usual and copied to where the graph reads them. Each value
of GAP's weight has a graph of its own.
No GPU has run it yet. test_cuda_graph.py repeats the operations of an iteration as a graph would, on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from svgan.motion.noise import Noise
from svgan.systems.stylevideogan.fast.step import move, noise_of
from svgan.systems.stylevideogan.state import CodesState
from svgan.systems.stylevideogan.step import Clips, Draws, gap_weight
from svgan.torch_utils.distributed import Process

WARM_UP = 3  # ordinary iterations before the capture, in which libraries allocate what they keep
Figures = dict[str, Tensor]


def iterate(state: CodesState, clips: Clips, process: Process) -> Figures:
    """Train critic and generator once, in place, as `step.iterate` does.

    The figures are the graph's own tensors: read or copy them before the next iteration. On a CPU, and with several
    workers, whose exchange a graph cannot hold, this is `fast.iterate`.
    """
    draws = Draws(state, clips, process)
    if state.device.type != "cuda" or process.world > 1:
        return move(state, draws, process)
    if state not in GRAPHS:
        GRAPHS[state] = Graphs(state, draws)
    return GRAPHS[state](state, draws, process)


class HeldDraws(Draws):
    """An iteration's draws in fixed memory, which `take` refills."""

    def __init__(self, draws: Draws, turns: int) -> None:
        self._real = [draws.real(turn).clone() for turn in range(turns)]
        self._eps = [draws.eps(turn).clone() for turn in range(turns)]
        self._noise = {key: _copied(noise_of(draws, *key)) for key in _noises(turns)}

    def take(self, draws: Draws) -> None:
        """Copy the values of `draws`."""
        turns, noises = range(len(self._real)), [noise_of(draws, *key) for key in self._noise]
        drawn = [*map(draws.real, turns), *map(draws.eps, turns), *(part for noise in noises for part in _parts(noise))]
        held = [*self._real, *self._eps, *(part for noise in self._noise.values() for part in _parts(noise))]
        torch._foreach_copy_(held, drawn, non_blocking=True)

    def real(self, turn: int) -> Tensor:
        return self._real[turn]

    def eps(self, turn: int) -> Tensor:
        return self._eps[turn]

    def noise(self, stream: str, turn: int) -> Noise:
        return self._noise[stream, turn]


def _noises(turns: int) -> Iterator[tuple[str, int]]:
    yield from (("critic", turn) for turn in range(turns))
    yield "generator", 0


def _parts(noise: Noise) -> tuple[Tensor, Tensor]:
    return noise.i, noise.s


def _copied(noise: Noise) -> Noise:
    return Noise(*(part.clone() for part in _parts(noise)))


class Graphs:
    """The graphs of one state, on the current stream of its GPU."""

    def __init__(self, state: CodesState, draws: Draws) -> None:
        self.held = HeldDraws(draws, state.config.n_critic)
        self.captured: dict[float, tuple[torch.cuda.CUDAGraph, Figures]] = {}
        self.warm: dict[float, int] = {}
        for _, optimizer in state.optimizers().values():
            for group in optimizer.param_groups:
                group["capturable"] = True

    def __call__(self, state: CodesState, draws: Draws, process: Process) -> Figures:
        weight = gap_weight(state)
        self.held.take(draws)
        if self.warm.setdefault(weight, 0) < WARM_UP:
            self.warm[weight] += 1
            return self._beside(state, process)
        if weight not in self.captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                figures = move(state, self.held, process)
            self.captured[weight] = graph, figures
        graph, figures = self.captured[weight]
        graph.replay()
        return figures

    def _beside(self, state: CodesState, process: Process) -> Figures:
        """Run an iteration on a side stream, as the capture does."""
        here, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            figures = move(state, self.held, process)
        here.wait_stream(beside)
        return figures


GRAPHS: WeakKeyDictionary[CodesState, Graphs] = WeakKeyDictionary()
