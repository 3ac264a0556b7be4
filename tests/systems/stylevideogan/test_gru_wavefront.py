"""The recurrence by hand against automatic differentiation of the plain loop, in float64."""

import pytest
import torch
from torch import Tensor, nn

from svgan.motion.recurrence import CELLS, unroll_plain
from svgan.systems.stylevideogan.fast import gru_wavefront
from svgan.systems.stylevideogan.fast.gru_wavefront import Weights

DOUBLE = torch.float64
SHAPES = [(3, 1, 5, 4), (2, 2, 4, 4), (4, 7, 6, 3), (2, 24, 8, 8)]  # B, T', W, Z


class Case:
    """Random weights, noise and first memory, and everything of the plain loop that is compared."""

    def __init__(self, batch: int, length: int, width: int, later: int):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.cells = nn.GRU(later, width, CELLS).double()
            draw = torch.randn
            self.noise, self.along_noise = draw(2, batch, length, later, dtype=DOUBLE)
            self.memory, self.along_memory = draw(2, CELLS, batch, width, dtype=DOUBLE)
            self.by_latents, self.by_moved = draw(2, batch, length, width, dtype=DOUBLE)
        self.weights = Weights.from_gru(self.cells)
        self.rollout = gru_wavefront.roll_out(self.weights, self.noise, self.memory)
        self.slopes = gru_wavefront.jacobians(self.rollout)

    def plain(self, noise: Tensor, memory: Tensor) -> Tensor:
        return unroll_plain(self.cells, noise.transpose(0, 1), memory)[0].transpose(0, 1)

    def tangent(self) -> gru_wavefront.Tangent:
        return gru_wavefront.jvp(self.weights, self.rollout, self.slopes, self.along_noise, self.along_memory)


@pytest.fixture(params=SHAPES, ids=str)
def case(request) -> Case:
    return Case(*request.param)


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_rollout_is_the_plain_loops(case):
    same(case.rollout.latents, case.plain(case.noise, case.memory).detach())


def test_its_gradient_by_the_noise_and_the_first_memory(case):
    noise, memory = case.noise.requires_grad_(), case.memory.requires_grad_()
    expected = torch.autograd.grad((case.plain(noise, memory) * case.by_latents).sum(), (noise, memory))
    for found, right in zip(
        gru_wavefront.input_gradients(case.weights, case.slopes, case.by_latents), expected, strict=True
    ):
        same(found, right)


def test_its_gradient_by_the_weights(case):
    memory, parameters = case.memory.requires_grad_(), list(case.cells.parameters())
    expected = torch.autograd.grad((case.plain(case.noise, memory) * case.by_latents).sum(), [*parameters, memory])
    by, by_memory = gru_wavefront.weight_gradients(case.weights, case.rollout, case.slopes, case.by_latents)
    for found, right in zip([*by.as_parameters(), by_memory], expected, strict=True):
        same(found, right)


def test_its_derivative_along_a_direction_and_the_gradient_of_both(case):
    memory, along = case.memory.requires_grad_(), case.along_memory.requires_grad_()
    latents, moved = torch.func.jvp(case.plain, (case.noise, memory), (case.along_noise, along))
    same(case.tangent().latents, moved.detach())
    total = (latents * case.by_latents).sum() + (moved * case.by_moved).sum()
    expected = torch.autograd.grad(total, [*case.cells.parameters(), memory, along])
    by, *by_memories = gru_wavefront.weight_gradients_with_jvp(
        case.weights, case.rollout, case.slopes, case.tangent(), case.by_latents, case.by_moved
    )
    for found, right in zip([*by.as_parameters(), *by_memories], expected, strict=True):
        same(found, right)
