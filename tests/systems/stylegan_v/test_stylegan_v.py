"""StyleGAN-V's pieces against their definitions."""

import math

import pytest
import torch

from svgan.errors import UserError
from svgan.images.losses import r1, with_lazy_r1
from svgan.images.stylegan2 import Discriminator, Generator, StyleGAN2Config
from svgan.latents.spaces import PictureSpace
from svgan.motion.acyclic import AcyclicCodes, draw_anchor_noise
from svgan.systems.stylegan_v.augment import TARGET, adapted, augment, draw, draw_colour, draw_place
from svgan.systems.stylegan_v.frame_times import SPANS, draw_times
from svgan.systems.stylegan_v.networks import HolisticDiscriminator, TimeDifferences, VideoGenerator, project
from svgan.systems.stylegan_v.state import StyleGANVState
from svgan.systems.stylegan_v.step import ema_decay
from svgan.torch_utils import rng
from svgan.training import recipes

SMALL = StyleGAN2Config(resolution=16, w_dim=8, mapping_layers=2, channels={4: 8, 8: 8, 16: 8})


def made(kind, *arguments, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*arguments, **options)


def generator() -> VideoGenerator:
    return made(lambda: VideoGenerator(SMALL, AcyclicCodes(noise=4, width=6, frequencies=5, distance=8, kernel=3)))


def clips(count: int = 2, frames: int = 3, side: int = 16) -> torch.Tensor:
    return torch.rand(count, frames, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def test_a_video_is_pictures_of_one_w_and_the_frames_motion_codes():
    network = generator()
    noise = draw_anchor_noise(2, 8, torch.tensor([0.0, 3.0, 9.5], dtype=torch.float64), rng.generator("cpu", 0))
    pictures, v = network(noise), network.motion(noise).float()
    assert pictures.shape == (2, 3, 3, 16, 16)
    w = network.synthesis.map(noise.content)
    for b in range(2):
        for t in range(3):
            one = network.synthesis(network.synthesis.broadcast(w[b : b + 1]), "none", v[b, t][None])
            torch.testing.assert_close(pictures[b, t], one[0], rtol=1e-4, atol=1e-5)
    own = torch.tensor([[0.0, 3.0, 9.5], [1.0, 2.0, 200.0]], dtype=torch.float64)  # times of each clip
    torch.testing.assert_close(network(noise.at(own))[0], pictures[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_motion_codes_are_further_channels_of_the_constant():
    """Against the first layer given the constant and the codes as a 4 x 4 map by hand."""
    plain, extra = made(Generator, SMALL), made(Generator, SMALL, extra=5)
    assert plain.extra == 0
    assert extra.convs[0].conv.weight.shape == (8, 13, 3, 3)
    codes, v = torch.randn(1, 6, 8), torch.randn(1, 5)
    entered = []
    extra.convs[0].register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0]))
    extra(codes, "none", v)
    assert torch.equal(entered[0][:, :8], extra.const[None])
    assert torch.equal(entered[0][:, 8:], v[:, :, None, None].expand(-1, -1, 4, 4))


@pytest.mark.parametrize(("joined", "frames"), [(8, 3), (4, 2)])
def test_frames_are_judged_alone_and_then_together(joined: int, frames: int):
    critic = made(HolisticDiscriminator, SMALL, frames, joined)
    x, times = clips(4, frames), torch.arange(frames)[None].expand(4, -1) * 3
    assert critic(x, times).shape == (4,)
    seen = []
    critic.alone.register_forward_hook(lambda module, inputs, out: seen.append(out))
    critic(x, times)
    assert seen[0].shape == (4 * frames, 4, joined, joined)  # half of 8 channels
    alone = critic.alone[-1](made_input(critic, x)[:1])
    torch.testing.assert_close(seen[0][:1], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(critic(x, times), critic(x, times * 2))
    assert not torch.allclose(critic(x, times), critic(x.flip(1), times))


def made_input(critic: HolisticDiscriminator, x: torch.Tensor) -> torch.Tensor:
    """What the last block of single frames is given."""
    from svgan.systems.stylegan_v.networks import leaky

    y = leaky(critic.from_rgb(x.flatten(0, 1)))
    for block in critic.alone[:-1]:
        y = block(y)
    return y


def test_a_logit_is_the_features_product_with_the_times_code():
    features, code = torch.randn(3, 16), torch.randn(3, 16)
    expected = [
        sum(a * b for a, b in zip(f.tolist(), c.tolist(), strict=True)) / 4 for f, c in zip(features, code, strict=True)
    ]
    torch.testing.assert_close(project(features, code), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_time_differences_tell_fractions_and_large_gaps_apart():
    encode = made(TimeDifferences, 2, 16)
    codes = encode(torch.tensor([[1, 1], [1, 2], [2, 1], [1.3, 1], [700, 1]]))
    assert codes.shape == (5, 16)
    assert float(torch.pdist(codes.detach()).min()) > 1e-3
    assert len(encode.frequencies) == 10
    with pytest.raises(UserError, match="joined: 0 frames of 16 px cannot be joined at 8"):
        HolisticDiscriminator(SMALL, 0, 8)
    with pytest.raises(UserError, match="joined: 3 frames of 16 px cannot be joined at 16"):
        HolisticDiscriminator(SMALL, 3, 16)


def test_r1_is_the_squared_gradient_by_finite_differences():
    critic = made(HolisticDiscriminator, SMALL, 3, 8).double()
    x, times = clips().double().requires_grad_(), torch.tensor([[0, 1, 4], [5, 6, 7]])
    found = r1(critic(x, times), x)
    g = torch.Generator().manual_seed(1)
    step = 1e-7
    directions = torch.linalg.qr(torch.randn(x.numel(), 3, dtype=torch.float64, generator=g)).Q.T
    (gradient,) = torch.autograd.grad(critic(x, times).sum(), x)
    with torch.no_grad():
        for direction in directions:
            move = direction.view_as(x) * step
            slope = (critic(x + move, times).sum() - critic(x - move, times).sum()) / (2 * step)
            assert float(slope) == pytest.approx(float((gradient * direction.view_as(x)).sum()), rel=1e-5, abs=1e-9)
    total = float(gradient.square().sum()) / (2 * 3)  # clips, frames
    assert float(found.detach()) == pytest.approx(total, rel=1e-9)
    weight = critic.conv.weight
    (by_weight,) = torch.autograd.grad(found, weight)
    place = (0, 0, 1, 1)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[place] += sign * step
        values.append(float(r1(critic(x, times), x)))
        with torch.no_grad():
            weight[place] -= sign * step
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(by_weight[place]), rel=1e-3, abs=1e-9)


def test_a_picture_is_a_clip_of_one_frame():
    """The domain's discriminator and StyleGAN-V's have one loss: over frames and samples R1 is a mean."""
    critic, pictures = made(Discriminator, SMALL).double(), clips(4, 1).flatten(0, 1).double()
    watched, one = pictures.clone().requires_grad_(), pictures[:, None].clone().requires_grad_()
    assert float(r1(critic(watched), watched)) == pytest.approx(float(r1(critic(one.flatten(0, 1)), one)), rel=1e-12)
    loss, lazily = pictures.sum(), {"gamma": 2.0, "every": 16}
    total, figures = with_lazy_r1(loss, lambda x: critic(x.flatten(0, 1)), pictures[:, None], step=32, **lazily)
    assert float(total) == pytest.approx(float(loss + 16 * r1(critic(watched), watched)), rel=1e-12)
    assert list(figures) == ["r1"]
    assert with_lazy_r1(loss, critic, pictures, step=33, **lazily) == (loss, {})
    assert with_lazy_r1(loss, critic, pictures, step=32, gamma=0.0, every=16) == (loss, {})


def test_frames_are_drawn_as_the_paper_says():
    times = draw_times(20_000, 40, rng.generator("cpu", 0))
    assert times.shape == (20_000, 3)
    assert int(times.min()) == 0
    assert int(times.max()) == 39
    assert bool((times.diff(dim=1) > 0).all())
    span = times[:, 2] - times[:, 0]
    assert sorted(set(span.tolist())) == list(SPANS)
    for s in SPANS:
        these = times[span == s]
        assert len(these) / 20_000 == pytest.approx(1 / 5, abs=0.02)
        starts = torch.bincount(these[:, 0], minlength=40 - s).float() / len(these)
        assert starts[: 40 - s].tolist() == pytest.approx([1 / (40 - s)] * (40 - s), abs=0.03)
        middle = torch.bincount(these[:, 1] - these[:, 0], minlength=s).float()[1:] / len(these)
        assert middle.tolist() == pytest.approx([1 / (s - 1)] * (s - 1), abs=0.03)


def test_one_frame_a_clip_is_any_frame_under_the_discriminator_of_pictures():
    times = draw_times(4000, 8, rng.generator("cpu", 0), frames=1)
    assert times.shape == (4000, 1)
    assert (torch.bincount(times[:, 0], minlength=8) / 4000).tolist() == pytest.approx([1 / 8] * 8, abs=0.03)
    sizes = StyleGAN2Config(resolution=32, w_dim=8, mapping_layers=2, channels={4: 6, 8: 6, 16: 5, 32: 4})
    ours, theirs = HolisticDiscriminator(sizes, frames=1), Discriminator(sizes)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    pictures = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        ours(pictures[:, None], times[:4]), theirs(pictures.contiguous(memory_format=torch.channels_last))
    )


def test_r1_has_the_papers_weight_for_a_resolution_and_a_batch_where_none_is_given():
    assert recipes.make("stylegan-v-full").r1_weight(256) == pytest.approx(0.2048)
    assert recipes.make("stylegan-v").r1_weight(64) == pytest.approx(0.1024)
    assert recipes.make("stylegan-v", r1_gamma=0.1).r1_weight(64) == 0.1


def test_the_full_size_is_the_papers():
    config = recipes.make("stylegan-v-full")
    assert config.channels(256) == {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64}
    assert config.ema == pytest.approx(ema_decay(64, 10**9))
    with torch.device("meta"):
        state = StyleGANVState.build(config, PictureSpace(14, 512, 16, 256), device="meta")
    assert state.critic.alone[-1] is not None
    assert state.motion.synthesis.const.shape == (512, 4, 4)
    assert 25e6 < sum(p.numel() for p in state.critic.parameters()) < 35e6


def test_a_short_video_has_short_spans_and_a_shorter_one_none():
    assert set(draw_times(200, 5, rng.generator("cpu", 0)).diff(dim=1).sum(1).tolist()) == {2, 4}
    assert draw_times(50, 40, rng.generator("cpu", 0), frames=2).shape == (50, 2)
    for length, frames in ((2, 3), (40, 0), (20, 40)):
        with pytest.raises(UserError, match=f"frames: {frames} of a clip of {length} frames"):
            draw_times(3, length, rng.generator("cpu", 0), frames)


def test_augmentation_is_one_for_all_frames_of_a_clip():
    still = clips(8, 1, 8).expand(-1, 3, -1, -1, -1)
    changed = augment(still, draw(8, 1.0, rng.generator("cpu", 0)))
    torch.testing.assert_close(changed[:, 1:], changed[:, :1].expand(-1, 2, -1, -1, -1))
    apart = (changed - still).abs().mean((1, 2, 3, 4))
    assert bool((apart > 0.01).all())
    one = clips(1, 1, 8).expand(8, -1, -1, -1, -1)
    assert float(augment(one, draw(8, 1.0, rng.generator("cpu", 0))).std(0).mean()) > 0.01  # clips differ


def test_no_probability_changes_nothing_and_half_changes_half():
    x = clips(4, 2, 8)
    torch.testing.assert_close(augment(x, draw(4, 0.0, rng.generator("cpu", 0))), x, rtol=1e-4, atol=1e-5)
    place = draw_place(4000, 0.5, rng.generator("cpu", 0))
    assert float((place[:, 0, 2] != 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    mirrored = torch.linalg.det(place[:, :, :2]) < 0
    assert float(mirrored.float().mean()) == pytest.approx(0.25, abs=0.04)
    colour = draw_colour(4000, 1.0, rng.generator("cpu", 0))
    grey = torch.ones(3)
    assert float((colour[:, :, :3] @ grey).log2().std()) == pytest.approx(0.5, abs=0.03)  # contrast, and nothing else


def test_the_probability_follows_the_sign():
    assert adapted(0.2, TARGET + 0.1, 5000) == pytest.approx(0.21)
    assert adapted(0.2, TARGET - 0.1, 5000) == pytest.approx(0.19)
    assert adapted(0.0, -1.0, 5000) == 0
    assert adapted(1.0, 1.0, 5000) == 1


def test_the_average_has_its_half_life_and_its_ramp():
    decay = ema_decay(64, 10**9)
    assert decay ** (20_000 / 64) == pytest.approx(0.5)
    assert ema_decay(64, 64_000) ** (3200 / 64) == pytest.approx(0.5)
    assert ema_decay(64, 0) == pytest.approx(0, abs=1e-9)
    assert not math.isnan(ema_decay(1, 0))
