"""The gradient angle against finite differences and hand-made generators."""

import math

import pytest
import torch
from torch import Tensor, nn

from svgan.motion.gradient_angle import gap_distance, gradient_angle, gradient_angle_penalty
from svgan.motion.gru import GRUMotion
from svgan.motion.noise import Noise
from svgan.torch_utils import rng

DOUBLE = torch.float64


def made_noise(batch: int = 3, length: int = 6, width: int = 4, later: int = 4) -> Noise:
    g = torch.Generator().manual_seed(1)
    i = torch.randn(batch, width, generator=g, dtype=DOUBLE)
    s = torch.randn(batch, length - 1, later, generator=g, dtype=DOUBLE)
    return Noise(i, s).requires_grad()


def standard(width: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(width, dtype=DOUBLE), torch.ones(width, dtype=DOUBLE)


def angle(latents: Tensor, noise: Noise) -> Tensor:
    return gradient_angle(gap_distance(latents, *standard(latents.shape[2])), noise)


def test_gap_distance_standardises_and_ignores_gradients_of_the_statistics():
    latents = torch.zeros(1, 3, 2, dtype=DOUBLE)
    latents[0, -1] = torch.tensor([5.0, 2.0])
    mean = torch.tensor([1.0, 2.0], dtype=DOUBLE, requires_grad=True)
    spread = torch.tensor([2.0, 3.0], dtype=DOUBLE, requires_grad=True)
    distance = gap_distance(latents, mean, spread)
    assert distance.item() == pytest.approx(2.0)
    assert not distance.requires_grad


def test_gap_distance_is_differentiable_where_nothing_moves():
    latents = torch.zeros(1, 3, 2, dtype=DOUBLE, requires_grad=True)
    gap_distance(latents, *standard(2)).sum().backward()
    assert latents.grad is not None
    assert torch.isfinite(latents.grad).all()


def test_a_looping_generator_has_a_small_angle():
    """Frames that follow from i alone: phi near 0, the penalty near its largest value (pi / 4)^2."""
    noise = made_noise()
    turns = torch.linspace(0, 3, noise.length, dtype=DOUBLE)[None, :, None]
    later = 1e-4 * noise.s.cumsum(1)
    latents = noise.i[:, None] * torch.cos(turns) + torch.cat([torch.zeros_like(later[:, :1]), later], 1)
    phi = angle(latents, noise)
    assert (phi < 1e-3).all()
    assert gradient_angle_penalty(phi).item() == pytest.approx((math.pi / 4) ** 2, abs=2e-3)


def test_a_noise_driven_generator_has_a_large_angle():
    """A random walk from i: d depends on the steps alone, phi is pi / 2 and costs nothing."""
    noise = made_noise()
    latents = torch.cat([noise.i[:, None], noise.i[:, None] + noise.s.cumsum(1)], 1)
    phi = angle(latents, noise)
    assert (phi > math.pi / 4).all()
    assert gradient_angle_penalty(phi).item() == 0


def test_the_angle_is_taken_per_clip_and_stacks_all_later_noise():
    """l_end - l_0 = a i + sum_k s_k, d = |.|: ||dd/ds|| = sqrt(T - 1), ||dd/di|| = a, in every clip."""
    noise = made_noise(length=5)
    scale = torch.tensor([0.5, 1.0, 8.0], dtype=DOUBLE)[:, None]
    end = (1 + scale) * noise.i + noise.s.sum(1)
    latents = torch.stack([noise.i, end], 1)
    expected = torch.atan(2.0 / scale[:, 0])
    torch.testing.assert_close(angle(latents, noise), expected, atol=1e-6, rtol=1e-6)


def small_motion() -> GRUMotion:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GRUMotion(memory=4, noise=4, trunk=(5,), outputs=3).double()


def test_gap_of_the_real_generator_against_finite_differences_of_the_noise():
    motion, noise = small_motion(), made_noise(length=4)
    statistics = standard(4)

    def distances(i: Tensor, s: Tensor) -> Tensor:
        return gap_distance(motion(Noise(i, s))[1], *statistics)

    def numeric(tensor: Tensor, at: int) -> Tensor:
        flat = tensor.detach().flatten(1)
        columns = []
        for k in range(flat.shape[1]):
            shift = torch.zeros_like(flat)
            shift[:, k] = 1e-6
            plus, minus = (
                [
                    t.detach() if j != at else (flat + sign * shift).view_as(tensor)
                    for j, t in enumerate((noise.i, noise.s))
                ]
                for sign in (1, -1)
            )
            columns.append((distances(*plus) - distances(*minus)) / 2e-6)
        return torch.stack(columns, 1)

    expected = torch.atan(numeric(noise.s, 1).norm(dim=1) / numeric(noise.i, 0).norm(dim=1))
    phi = gradient_angle(distances(noise.i, noise.s), noise)
    torch.testing.assert_close(phi, expected, atol=1e-7, rtol=1e-6)


def test_gap_of_the_real_generator_against_finite_differences_of_the_weights():
    """The second-order gradient: every weight of P and H moves the penalty as autograd says."""
    motion = small_motion()

    def penalty() -> Tensor:
        noise = made_noise(length=4)
        return gradient_angle_penalty(angle(motion(noise)[1], noise))

    assert penalty() > 0
    named = dict(motion.cells.named_parameters()) | dict(motion.hallucinate.named_parameters())
    gradients = torch.autograd.grad(penalty(), list(named.values()))
    g = torch.Generator().manual_seed(3)
    for (name, weight), gradient in zip(named.items(), gradients, strict=True):
        direction = torch.randn(weight.shape, generator=g, dtype=DOUBLE)
        ends = []
        for sign in (1, -1):
            weight.data += sign * 1e-6 * direction
            ends.append(penalty().item())
            weight.data -= sign * 1e-6 * direction
        numeric = (ends[0] - ends[1]) / 2e-6
        assert (gradient * direction).sum().item() == pytest.approx(numeric, abs=1e-8, rel=1e-5), name


def test_gap_trains_a_looping_generator_out_of_its_loop():
    motion = small_motion()
    with torch.no_grad():
        for k in range(4):
            getattr(motion.cells, f"weight_ih_l{k}").mul_(0.05)
    optimizer = torch.optim.Adam(motion.parameters(), lr=0.03)
    angles = []
    for step in range(60):
        noise = motion.draw(8, 6, rng.generator("cpu", 0, step))
        noise = Noise(noise.i.double(), noise.s.double()).requires_grad()
        phi = angle(motion(noise)[1], noise)
        optimizer.zero_grad()
        gradient_angle_penalty(phi).backward()
        optimizer.step()
        angles.append(phi.mean().item())
    assert angles[0] < 0.1
    assert angles[-1] > 0.3


@pytest.mark.parametrize("module", [nn.BatchNorm1d, nn.InstanceNorm1d])
def test_nothing_in_the_generator_mixes_samples(module: type):
    assert not any(isinstance(m, module) for m in small_motion().modules())
