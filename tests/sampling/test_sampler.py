"""Sampling: prefixes, streams, truncation, and the offset to another subject."""

from pathlib import Path

import pytest
import torch
from made_runs import CODE_WIDTH, LAYERS, made_latents, made_state

from svgan.errors import UserError
from svgan.sampling.offset import offset, offset_orthogonal
from svgan.sampling.sampler import Sampler


@pytest.fixture
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "made-latents"


@pytest.fixture
def sampler(latents: Path) -> Sampler:
    return Sampler.from_state(made_state(latents))


def test_clips_are_codes_and_a_function_of_the_seed(sampler: Sampler):
    codes = sampler.codes(3, 40, seed=1)
    assert codes.shape == (3, 40, LAYERS, CODE_WIDTH)
    assert not codes.requires_grad
    assert torch.equal(codes, sampler.codes(3, 40, seed=1))
    assert not torch.equal(codes, sampler.codes(3, 40, seed=2))


def test_a_long_clip_begins_with_the_short_one(sampler: Sampler):
    torch.testing.assert_close(sampler.codes(2, 250, seed=1)[:, :25], sampler.codes(2, 25, seed=1))


def test_a_stream_is_the_clip_in_pieces(sampler: Sampler):
    pieces = list(sampler.stream(2, 100, 3, chunk=16))
    assert max(p.shape[1] for p in pieces) == 16
    torch.testing.assert_close(torch.cat(pieces, 1), sampler.codes(2, 100, 3))


def test_continuous_motion_has_frames_at_any_time(latents: Path):
    sampler = Sampler.from_state(made_state(latents, motion="acyclic", iteration="plain", gap_weight=0))
    whole = sampler.codes(2, 100, 3)
    torch.testing.assert_close(sampler.timed(50).codes(2, 199, 3)[:, ::2], whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sampler.timed(None, 2.4).codes(2, 40, 3), whole[:, 60:], rtol=1e-4, atol=1e-4)
    assert (sampler.timed(60).meta["fps"], sampler.meta["fps"]) == (60, 25)
    assert torch.equal(sampler.timed(25).codes(2, 100, 3), whole)


@pytest.mark.parametrize(
    ("fps", "start", "message"),
    [
        (0, 0, "--fps 0: must be above 0"),
        (float("nan"), 0, "--fps nan: must be above 0"),
        (None, -1, "--start -1: must be 0 seconds or more"),
        (50, 0, "--fps 50: tiny has 25 frames a second, from the first"),
        (None, 2, "--start 2: tiny has 25 frames a second"),
    ],
)
def test_times_that_there_are_not(sampler: Sampler, fps: float | None, start: float, message: str):
    with pytest.raises(UserError, match=message):
        sampler.timed(fps, start)


def test_coordinates_decode_to_the_codes(sampler: Sampler):
    coordinates = sampler.coordinates(2, 30, 1)
    torch.testing.assert_close(sampler.space.decode(coordinates), sampler.codes(2, 30, 1))


def test_truncation_pulls_towards_the_mean(sampler: Sampler):
    mean = sampler.space.mean.view(LAYERS, CODE_WIDTH)
    whole, half = sampler.codes(2, 10, 1), sampler.codes(2, 10, 1, truncation=0.5)
    torch.testing.assert_close(half - mean, 0.5 * (whole - mean), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("truncation", [0, -0.5, 1.5, float("nan")])
def test_a_truncation_out_of_range(sampler: Sampler, truncation: float):
    with pytest.raises(UserError, match="truncation"):
        sampler.codes(1, 5, 0, truncation=truncation)


def test_the_plain_offset_carries_the_mean_over(latents: Path):
    codes = torch.from_numpy(made_latents(latents).codes)
    source, target = codes.mean(0), torch.randn(LAYERS, CODE_WIDTH, generator=torch.Generator().manual_seed(0))
    moved = offset(codes, source, target)
    torch.testing.assert_close(moved.mean(0), target, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved.diff(dim=0), codes.diff(dim=0), rtol=1e-4, atol=1e-4)


def test_the_orthogonal_offset_leaves_the_motions_subspace_alone(latents: Path):
    """Along the subject's principal axes nothing moves; across them the clip is the target's."""
    stored = made_latents(latents)
    codes, basis = torch.from_numpy(stored.codes), torch.from_numpy(stored.basis)
    source, target = codes.mean(0), torch.randn(LAYERS, CODE_WIDTH, generator=torch.Generator().manual_seed(0))
    moved = offset_orthogonal(codes, source, target, basis)
    torch.testing.assert_close(moved.flatten(1) @ basis.T, codes.flatten(1) @ basis.T, rtol=1e-3, atol=1e-3)
    complement = torch.eye(LAYERS * CODE_WIDTH) - basis.T @ basis
    expected = (target - source).flatten() @ complement
    torch.testing.assert_close((moved - codes)[0].flatten(), expected, rtol=1e-3, atol=1e-3)
    assert moved[0].shape == target.shape
