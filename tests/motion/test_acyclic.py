"""StyleGAN-V's motion codes: the formula of v(t), its anchors, its noise, and the codes made of them."""

import math

import pytest
import torch

from svgan.motion.acyclic import AcyclicCodes, AnchorNoise, acyclic, draw_anchor_noise, periods
from svgan.motion.continuous import AcyclicMotion
from svgan.torch_utils import rng

DISTANCE, KERNEL = 8, 3


def made(**sizes) -> AcyclicCodes:
    sizes = dict(noise=5, width=6, frequencies=7, distance=DISTANCE, kernel=KERNEL, horizon=64) | sizes
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AcyclicCodes(**sizes)


def noise_at(times, clips: int = 3, begin: float | None = None) -> AnchorNoise:
    noise = draw_anchor_noise(clips, 4, torch.as_tensor(times, dtype=torch.float64), rng.generator("cpu", 1))
    if begin is None:
        return noise
    return AnchorNoise(noise.seed, torch.full_like(noise.begin, begin), noise.content, noise.times, noise.part)


@torch.no_grad()
def test_a_code_is_the_papers_formula():
    """Against a loop over clips, frames and frequencies that follows docs/papers.md#stylegan-v-generator."""
    codes, begin, times = made(), 21.5, [0.0, 2.5, 3.25, 17.0, 40.0]
    noise = noise_at(times, clips=2, begin=begin)
    found = codes(noise)
    origin = begin - begin % DISTANCE
    for b in range(2):
        for index, t in enumerate(times):
            tau = begin + t
            k = int((tau - origin) // DISTANCE)
            z = noise.anchors(k, k + 2 + codes.margin, 5)[b : b + 1]
            u_left, u_right = codes.motion(z)[0]
            t_left, t_right = origin + k * DISTANCE, origin + (k + 1) * DISTANCE
            alpha = (tau - t_left) / DISTANCE
            w_p, w_phi, w_a = (m.weight.double() / math.sqrt(6) for m in (codes.scale, codes.phase, codes.aligner))
            p, phi, a_left, a_right = 1 + torch.tanh(w_p @ u_left), w_phi @ u_left, w_a @ u_left, w_a @ u_right
            for f in range(7):
                period = 2 ** (3 + f * (6 - 3) / 6)  # from 8 to 64 frames

                def r(time, f=f, period=period, p=p, phi=phi):
                    return 2 * math.pi / period * p[f] * time + phi[f] * (64 / period)

                for wave, place in ((torch.sin, f), (torch.cos, 7 + f)):
                    e, e_left, e_right = (wave(r(time)) for time in (tau, t_left, t_right))
                    expected = e - ((1 - alpha) * e_left + alpha * e_right)
                    expected = expected + (1 - alpha) * a_left[place] + alpha * a_right[place]
                    assert float(found[b, index, place]) == pytest.approx(float(expected), abs=1e-9)


@torch.no_grad()
def test_two_convolutions_without_padding_make_an_anchors_code():
    codes = made()
    z = torch.randn(2, 9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = z.transpose(1, 2)
    for conv in codes.convs:
        weight = conv.weight.double() / math.sqrt(conv.weight[0].numel()) * 0.01
        y = torch.nn.functional.conv1d(x, weight, conv.bias.double() * 0.01)
        x = torch.where(y > 0, y, 0.2 * y) * math.sqrt(2)
    assert codes.motion(z).shape == (2, 9 - 2 * (KERNEL - 1), 6)
    torch.testing.assert_close(codes.motion(z), x.transpose(1, 2))
    assert codes.motion(z).std() == pytest.approx(1, abs=0.5)


@torch.no_grad()
def test_a_code_is_its_aligner_at_every_anchor_and_continuous_across_it():
    codes = made()
    anchors = torch.arange(0, 160, DISTANCE, dtype=torch.float64)
    noise = noise_at(anchors, begin=16.0)
    u = codes.motion(noise.anchors(0, len(anchors) + codes.margin, 5))
    torch.testing.assert_close(codes(noise), codes.aligner(u), rtol=0, atol=1e-9)
    for tiny in (1e-3, 1e-6):
        before, after = codes(noise.at(anchors[1:] - tiny)), codes(noise.at(anchors[1:] + tiny))
        assert float((after - before).abs().max()) < 60 * tiny
    inside = codes(noise.at(anchors[:-1] + 3.3)) - codes.aligner(u)[:, :-1]
    assert float(inside.abs().mean()) > 0.3  # it does move between


def test_integer_times_are_the_same_frames_at_25_and_50_fps():
    codes = made()
    slow, fast = noise_at(torch.arange(100)), noise_at(torch.arange(0, 100, 0.5))
    torch.testing.assert_close(codes(fast)[:, ::2], codes(slow), rtol=0, atol=1e-12)


def test_no_period_over_4096_frames():
    """The nearest that codes come to repeating a second, at any lag, is as far as codes apart are."""
    codes = made(frequencies=16, noise=16, width=16, distance=16, horizon=1024, kernel=5)
    with torch.no_grad():
        v = codes(noise_at(torch.arange(4096), clips=1))[0]
    stretch = v[:25]
    lags = range(100, 4096 - 25)
    apart = torch.stack([(v[lag : lag + 25] - stretch).square().mean() for lag in lags]).sqrt()
    typical = float(v.var(0).mean().mul(2).sqrt())
    assert float(apart.min()) > 0.4 * typical
    assert float(v[2048:].std() / v[:2048].std()) == pytest.approx(1, abs=0.1)  # nor does it fade or grow


def test_periods_are_geometric_and_the_least_is_the_anchors_distance():
    t = periods(16, 1024, 256)
    assert (float(t[0]), float(t[-1])) == pytest.approx((16, 1024))
    torch.testing.assert_close(t[1:] / t[:-1], torch.full((255,), 64 ** (1 / 255), dtype=torch.float64))


def test_an_anchors_noise_is_a_function_of_seed_and_anchor_alone():
    noise = noise_at([0.0], clips=3)
    whole = noise.anchors(0, 50, 5)
    assert torch.equal(noise.anchors(37, 41, 5), whole[:, 37:41])
    assert torch.equal(noise[1:].anchors(37, 41, 5), whole[1:, 37:41])
    assert torch.equal(noise[1:][1:2].anchors(0, 50, 5), whole[2:])
    assert not torch.equal(whole[:, 0], whole[:, 1])
    assert whole.mean() == pytest.approx(0, abs=0.15)
    assert whole.std() == pytest.approx(1, abs=0.1)


@torch.no_grad()
def test_codes_an_hour_in_are_as_smooth_as_at_the_start():
    codes = made(distance=16, horizon=1024)
    late = torch.arange(0, 32, 0.01, dtype=torch.float64) + 90_000
    steps = [codes(noise_at(times)).diff(dim=1).abs().max() for times in (late - 90_000, late)]
    assert float(steps[1]) == pytest.approx(float(steps[0]), rel=0.6)


@pytest.mark.parametrize("short", [1e-9, 1e-6, 1e-3])
def test_the_formula_alone_is_continuous_at_its_right_end(short: float):
    scale, phase = torch.full((1, 4), 1.3).double(), torch.full((1, 4), 0.2).double()
    ends = torch.zeros(1, 8).double(), torch.ones(1, 8).double()
    left, time = torch.zeros(1).double(), torch.full((1,), 16.0).double() - short
    v = acyclic(time, left, 16.0, periods(16, 1024, 4), scale, phase, ends)
    assert float((v - 1).abs().max()) < 5 * short + 1e-12


def motion() -> AcyclicMotion:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AcyclicMotion(content=6, noise=5, trunk=(12, 10), outputs=4, distance=DISTANCE, kernel=KERNEL)


@pytest.mark.parametrize(("length", "chunk"), [(1, 64), (25, 7), (200, 64)])
@torch.no_grad()
def test_a_stream_is_the_whole_and_begins_with_the_shorter(length: int, chunk: int):
    made = motion()
    whole = made(made.draw(3, length, rng.generator("cpu", 5)))[0]
    pieces = list(made.stream(3, length, rng.generator("cpu", 5), chunk))
    assert whole.shape == (3, length, 4)
    assert max(piece.shape[1] for piece in pieces) <= chunk
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-5)
    longer = torch.cat(list(made.stream(3, length + 30, rng.generator("cpu", 5), chunk)), 1)
    torch.testing.assert_close(longer[:, :length], whole, rtol=0, atol=1e-5)
    part = torch.cat(list(made.stream(3, length, rng.generator("cpu", 5), chunk, slice(1, 3))), 1)
    torch.testing.assert_close(part, whole[1:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_any_start_and_any_rate_are_of_the_same_clip():
    made = motion()
    whole = torch.cat(list(made.stream(2, 120, rng.generator("cpu", 5))), 1)
    late = torch.cat(list(made.stream(2, 20, rng.generator("cpu", 5), start=100.0)), 1)
    torch.testing.assert_close(late, whole[:, 100:], rtol=0, atol=1e-5)
    slow = torch.cat(list(made.stream(2, 41, rng.generator("cpu", 5), start=50.0, step=0.25)), 1)
    torch.testing.assert_close(slow[:, ::4], whole[:, 50:61], rtol=0, atol=1e-5)
    assert float((slow[:, 1] - slow[:, 0]).abs().max()) > 0


def test_the_slices_of_two_workers_are_one_workers_draw():
    made = motion()
    noise = made.draw(4, 9, rng.generator("cpu", 0))
    whole = made(noise)[0]
    halves = torch.cat([made(noise[:2])[0], made(noise[2:])[0]])
    torch.testing.assert_close(halves, whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_content_is_one_for_a_clip_and_motion_moves_it():
    made = motion()
    codes, v = made(made.draw(64, 30, rng.generator("cpu", 0)))
    assert v.shape == (64, 30, made.acyclic.width)
    assert float(codes.std(1).mean()) > 0.1
    assert float(codes.mean(1).std()) > 0.1


def test_every_parameter_has_a_gradient():
    made = motion()
    made(made.draw(3, 25, rng.generator("cpu", 0)))[0].square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in made.parameters())
