"""The generator: wiring, shapes, the fused path against the plain one, streams against whole rollouts."""

import pytest
import torch
from torch import nn

from svgan.motion.gru import GRUMotion
from svgan.motion.noise import BLOCK, Noise
from svgan.motion.recurrence import unroll_fused, unroll_plain
from svgan.systems.stylevideogan.networks import make_motion
from svgan.torch_utils import rng
from svgan.training import recipes


def made(memory: int = 8, noise: int = 6, outputs: int = 5) -> GRUMotion:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GRUMotion(memory=memory, noise=noise, trunk=(12, 10), outputs=outputs)


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 2), (4, 25), (2, 70)])
def test_shapes(batch: int, length: int):
    motion = made()
    noise = motion.draw(batch, length, rng.generator("cpu", 0))
    assert noise.i.shape == (batch, 8)
    assert noise.s.shape == (batch, length - 1, 6)
    codes, latents = motion(noise)
    assert codes.shape == (batch, length, 5)
    assert latents.shape == (batch, length, 8)


def test_the_recurrence_is_the_papers():
    """Against four torch GRU cells stepped one frame at a time, with l_0 = i and l_{k+1} the fourth memory."""
    motion = made()
    noise = motion.draw(3, 6, rng.generator("cpu", 0))
    cells = []
    for k in range(4):
        cell = nn.GRUCell(6 if k == 0 else 8, 8)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({n: getattr(motion.cells, f"{n}_l{k}") for n in names})
        cells.append(cell)
    memory = list(motion.first_memory(noise.i))
    torch.testing.assert_close(memory[3], noise.i)
    expected = [noise.i]
    for s in noise.s.unbind(1):
        x = s
        for k, cell in enumerate(cells):
            memory[k] = x = cell(x, memory[k])
        expected.append(x)
    codes, latents = motion(noise)
    torch.testing.assert_close(latents, torch.stack(expected, 1))
    torch.testing.assert_close(codes, motion.decode(latents))


def test_hallucinated_memories_have_the_scale_of_i():
    memory = made(memory=32).first_memory(torch.randn(64, 32, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(memory[:3].mean(2), torch.zeros(3, 64), atol=1e-5, rtol=0)
    torch.testing.assert_close(memory[:3].square().mean(2), torch.ones(3, 64), atol=2e-2, rtol=0)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 24])
def test_fused_and_plain_recurrences_are_equal(length: int):
    motion = made().double()
    g = torch.Generator().manual_seed(0)
    s = torch.randn(length, 3, 6, generator=g, dtype=torch.float64)
    memory = torch.randn(4, 3, 8, generator=g, dtype=torch.float64)
    for fused, plain in zip(unroll_fused(motion.cells, s, memory), unroll_plain(motion.cells, s, memory), strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-12, atol=1e-12)


def test_a_fresh_rollout_neither_dies_out_nor_shakes():
    """An untrained generator spreads as widely after 400 frames as after 25, and moves as smoothly as a face."""
    motion = made(memory=32, noise=32, outputs=32)
    with torch.no_grad():
        codes = motion(motion.draw(64, 400, rng.generator("cpu", 0)))[0]
    early, late = codes[:, :25], codes[:, 375:]
    assert 0.7 < late.std(0).mean() / early.std(0).mean() < 1.3
    for part in (early, late):
        centred = part - part.mean((0, 1))
        correlation = (centred[:, 1:] * centred[:, :-1]).mean() / centred.square().mean()
        assert 0.985 < correlation < 0.998


def test_without_gradients_the_codes_are_the_same():
    motion = made()
    noise = motion.draw(3, 25, rng.generator("cpu", 0))
    with torch.no_grad():
        fused = motion(noise)[0]
    torch.testing.assert_close(fused, motion(noise)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, BLOCK + 1, BLOCK + 2, 100])
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_a_stream_is_the_rollout_in_pieces(length: int, chunk: int):
    motion = made()
    whole = motion(motion.draw(2, length, rng.generator("cpu", 5)))[0]
    pieces = list(motion.stream(2, length, rng.generator("cpu", 5), chunk))
    assert all(1 <= p.shape[1] <= chunk for p in pieces)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-5, atol=1e-5)


def test_a_long_draw_begins_with_the_short_one():
    motion = made()
    short, long = (motion.draw(3, t, rng.generator("cpu", 9)) for t in (25, 250))
    assert torch.equal(short.i, long.i)
    assert torch.equal(short.s, long.s[:, :24])


def test_clips_do_not_see_one_another():
    motion = made()
    noise = motion.draw(4, 12, rng.generator("cpu", 0))
    whole = motion(noise)[0]
    alone = motion(noise[1:2])[0]
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-5, atol=1e-6)


def test_later_noise_moves_later_frames_only():
    motion = made()
    noise = motion.draw(2, 10, rng.generator("cpu", 0))
    changed = noise.s.clone()
    changed[:, 4] += 1
    before, after = motion(noise)[0], motion(Noise(noise.i, changed))[0]
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5], after[:, 5])


def test_sizes_of_the_papers_generator():
    """H (without normalisation), P and the affines at 18 x 512 codes; docs/papers.md#stylevideogan-generator."""
    motion = make_motion(recipes.make("paper"), 18 * 512)
    count = {name: sum(p.numel() for p in child.parameters()) for name, child in motion.named_children()}
    assert count == {"hallucinate": 21_824, "cells": 25_344, "trunk": 175_040, "affine": 4_727_808}


@pytest.mark.gpu
def test_gpu_rollouts_equal_the_cpus():
    motion = made()
    noise = motion.draw(3, 25, rng.generator("cpu", 0))
    expected = motion(noise)[0]
    there = Noise(noise.i.cuda(), noise.s.cuda())
    motion.cuda()
    torch.testing.assert_close(motion(there)[0].cpu(), expected, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(motion(there)[0].cpu(), expected, rtol=1e-3, atol=1e-4)
