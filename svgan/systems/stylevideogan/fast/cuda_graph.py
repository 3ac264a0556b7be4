"""The fast `iterate` of one worker on a GPU as a CUDA graph: one launch in place of some three thousand.

A graph repeats the operations of one iteration on the same places in memory, and nothing of the program that issued
them. What differs from step to step are therefore the draws, which are made as ever and copied to where the graph reads
them, and GAP's weight, of which each value has a graph of its own.
No GPU has run it yet; test_cuda_graph.py repeats the operations of an iteration as a graph would, on a CPU.
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

WARM_UP = 3  # iterations as ever before one is captured, in which libraries make what they keep
Figures = dict[str, Tensor]


def iterate(state: CodesState, clips: Clips, process: Process) -> Figures:
    """Train critic and generator once, in place, as `step.iterate` does. The figures are the graph's own: read
    before the next iteration, or copied. On a CPU, and with several workers, whose exchange is no part of a graph, this
    is `fast.iterate`."""
    draws = Draws(state, clips, process)
    if state.device.type != "cuda" or process.world > 1:
        return move(state, draws, process)
    if state not in GRAPHS:
        GRAPHS[state] = Graphs(state, draws)
    return GRAPHS[state](state, draws, process)


class HeldDraws(Draws):
    """An iteration's draws in places of their own, which `take` fills anew."""

    def __init__(self, draws: Draws, turns: int) -> None:
        self._real = [draws.real(turn).clone() for turn in range(turns)]
        self._eps = [draws.eps(turn).clone() for turn in range(turns)]
        self._noise = {key: _copied(noise_of(draws, *key)) for key in _noises(turns)}

    def take(self, draws: Draws) -> None:
        """Copy what `draws` would give."""
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
    """Those of one state, on its own GPU's current stream."""

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
        """An iteration on a stream that is not the default one, as it will be captured."""
        here, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            figures = move(state, self.held, process)
        here.wait_stream(beside)
        return figures


GRAPHS: WeakKeyDictionary[CodesState, Graphs] = WeakKeyDictionary()
