"""Clips of real frames: the footage's own, a function of seed and step, whatever was drawn before."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_moco import PAPER, made_latents, made_source, small

from svgan.errors import UserError
from svgan.images.domain import Domain, to_network, to_uint8
from svgan.images.frame_bank import FrameBank
from svgan.images.stylegan2 import Generator, StyleGAN2Config
from svgan.systems.mocogan_hd.source import FrameSource, Renderer


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("moco") / "latents"


def pooled(pictures: np.ndarray, size: int) -> torch.Tensor:
    x = torch.from_numpy(pictures).float().permute(0, 3, 1, 2) / 127.5 - 1
    return torch.nn.functional.avg_pool2d(x, x.shape[-1] // size)


def test_a_clip_is_every_second_rendered_frame(latents: Path, random_domain: Path):
    config = small()
    source = made_source(latents, random_domain, config)
    clips = source.draw(3, seed=0, step=0)
    assert clips.shape == (3, 4, 3, 8, 8)
    domain = Domain.load(random_domain)
    footage = pooled(domain.render(source.latents.codes), 8)
    for clip in clips:
        apart = (footage[:-6, None] - clip[:1]).abs().amax((1, 2, 3, 4))
        start = int(apart.argmin())
        assert (footage[start : start + 7 : 2] - clip).abs().max() < 2.1 / 127.5  # rounded to bytes before and after


def test_a_draw_is_a_function_of_seed_and_step_and_ranks_share_it(latents: Path, random_domain: Path):
    config = small()
    source, fresh = (made_source(latents, random_domain, config) for _ in range(2))
    for step in range(5):
        source.draw(4, seed=0, step=step)
    whole = source.draw(4, seed=0, step=7)
    assert torch.equal(fresh.draw(4, seed=0, step=7), whole)
    parts = [fresh.draw(4, seed=0, step=7, rank=rank, world=2) for rank in range(2)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(fresh.draw(4, seed=1, step=7), whole)
    with pytest.raises(UserError, match="batch: 3 clips"):
        fresh.draw(3, seed=0, step=0, world=2)


@pytest.mark.parametrize(
    ("time_step", "half_speed", "stride"), [(2, True, 1), (2, False, 2), (1, False, 1), (4, True, 2)]
)
def test_the_judges_windows_have_the_sampled_clips_speed(
    latents: Path, random_domain: Path, time_step: int, half_speed: bool, stride: int
):
    config = small(time_step=time_step, half_speed=half_speed)
    source = made_source(latents, random_domain, config)
    windows = source.windows(5, 0)
    assert windows.shape == (5, 4, 8)
    codes = source.space.encode(torch.from_numpy(source.latents.codes))
    start = int((codes - windows[0, 0]).abs().sum(1).argmin())
    torch.testing.assert_close(codes[start : start + 3 * stride + 1 : stride], windows[0])


def test_recorded_frames_take_the_place_of_renderings(latents: Path, random_domain: Path):
    config, domain = small(), Domain.load(random_domain)
    codes = made_latents(latents, domain)
    space = made_source(latents, random_domain, config).space
    recorded = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    source = FrameSource(config, domain, codes, space, "cpu", originals=recorded)
    clip = source.draw(1, seed=0, step=0)[0]
    apart = (pooled(recorded, 8)[:, None] - clip[None, :1]).abs().amax((1, 2, 3, 4))
    assert apart.min() < 1.1 / 127.5
    with pytest.raises(UserError, match="59 recorded frames for 60 codes"):
        FrameSource(config, domain, codes, space, "cpu", originals=recorded[:59])


def test_recorded_frames_of_the_right_size_stay_in_their_file_and_others_shrink_when_asked_for(tmp_path: Path):
    recorded = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "frames.npy", recorded)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="c")
    codes, rows = np.zeros((70, 2, 2), np.float32), torch.tensor([[0, 33], [69, 1]])
    bank = FrameBank(codes, lambda codes: codes, 8, torch.device("cpu"), mapped)
    assert bank._frames.data_ptr() == mapped.ctypes.data, "no copy"
    expected = torch.from_numpy(recorded)[rows].movedim(-1, -3).float() / 127.5 - 1
    assert torch.equal(bank[rows], expected)
    small = FrameBank(codes, lambda codes: codes, 4, torch.device("cpu"), mapped)
    assert not small._made.any()
    whole = torch.from_numpy(to_uint8(to_network(recorded, 4)))[rows].movedim(-1, -3).float() / 127.5 - 1
    # The bank shrinks 32 frames at a time, this all 70: a mean between two bytes may round either way.
    torch.testing.assert_close(small[rows], whole, rtol=0, atol=1.01 / 127.5)
    assert small._made.tolist() == [True, True, True]


def test_fewer_frames_than_a_clip_are_refused(random_domain: Path, tmp_path: Path):
    domain = Domain.load(random_domain)
    made_latents(tmp_path / "short", domain, frames=6)
    with pytest.raises(UserError, match=r"4 frames, time_step 2: window: 7 frames, but the longest run .* has 6"):
        made_source(tmp_path / "short", random_domain, small())


def test_rendering_in_batches_is_rendering_at_once(random_domain: Path):
    """The same frames and the same gradients; each batch of several is rendered again in the backward pass."""
    generator = Domain.load(random_domain).generator
    codes = torch.randn(5, 6, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for batch in (5, 2):
        own = codes.clone().requires_grad_()
        frames = Renderer(generator, 8, batch)(own)
        frames.square().sum().backward()
        found.append((frames.detach(), own.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("resolution", "together"), [(64, 64), (256, 32), (1024, 2)])
def test_large_pictures_are_rendered_few_at_a_time(resolution: int, together: int):
    sides = [2**k for k in range(2, resolution.bit_length())]
    config = StyleGAN2Config(resolution=resolution, w_dim=4, mapping_layers=1, channels=dict.fromkeys(sides, 2))
    assert Renderer(Generator(config), 16, 64).batch == together


def test_a_batch_of_one_cannot_be_contrasted(latents: Path, random_domain: Path):
    with pytest.raises(UserError, match="batch: the contrastive loss needs 2 clips"):
        made_source(latents, random_domain, small(**PAPER, batch=1))
    source = made_source(latents, random_domain, small(**PAPER, batch=4))
    assert len(source.draw(4, seed=0, step=0, rank=1, world=2)) == 2
    with pytest.raises(UserError, match="batch: 4 clips for 4 workers are one each, but the contrastive loss needs 2"):
        source.draw(4, seed=0, step=0, rank=1, world=4)
    assert len(made_source(latents, random_domain, small(batch=4)).draw(4, seed=0, step=0, rank=1, world=4)) == 1


def test_a_size_that_does_not_divide_the_domains_is_refused(latents: Path, random_domain: Path):
    with pytest.raises(UserError, match="critic_size: 6 does not divide the domain's 16 pixels"):
        made_source(latents, random_domain, small(critic_size=6))
