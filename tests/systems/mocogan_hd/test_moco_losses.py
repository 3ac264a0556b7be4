"""Formulas against their definitions, in naive loops and finite differences."""

import math

import pytest
import torch

from svgan.systems.mocogan_hd import losses


def test_the_relativistic_loss_is_its_definition():
    torch.manual_seed(0)
    real, fake = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    moments = losses.score_moments(real, fake)
    critic = ((real - fake.mean() - 1) ** 2).mean() / 2 + ((fake - real.mean()) ** 2).mean() / 2
    generator = ((fake - real.mean() - 1) ** 2).mean() / 2 + ((real - fake.mean()) ** 2).mean() / 2
    torch.testing.assert_close(losses.relativistic(moments), critic)
    torch.testing.assert_close(losses.relativistic(losses.swapped(moments)), generator)
    two = torch.stack([moments, 2 * moments])
    torch.testing.assert_close(
        losses.relativistic(two), losses.relativistic(moments) + losses.relativistic(2 * moments)
    )


def test_hinge_and_logistic_losses_are_their_definitions():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert float(losses.hinge_critic(real, fake)) == pytest.approx((0 + 0.5) / 2 + (0 + 1.25) / 2)
    assert float(losses.hinge_generator(fake)) == pytest.approx(2.75 / 2)
    expected = -(torch.sigmoid(real).log().mean() + (1 - torch.sigmoid(fake)).log().mean())
    torch.testing.assert_close(losses.logistic_critic(real, fake), expected)
    torch.testing.assert_close(losses.logistic_generator(fake), -torch.sigmoid(fake).log().mean())


def made_scales(x: torch.Tensor, weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """Two 'scales' of smooth scores, each sample's own."""
    return [torch.tanh(torch.einsum("oc,bcthw->bothw", weight, x)).pow(2) for weight in weights]


def test_the_gradient_penalty_is_that_of_finite_differences():
    """The norm over channels, at every frame and pixel, in float64."""
    g = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(2, 3, 2, 2, 2, generator=g, dtype=torch.float64) for _ in range(2))
    weights = [torch.randn(1, 3, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    eps = torch.tensor([0.3, 0.8], dtype=torch.float64)
    found = losses.channel_gradient_penalty(lambda x: made_scales(x, weights), real, fake, eps)
    mixed = eps.view(-1, 1, 1, 1, 1) * real + (1 - eps.view(-1, 1, 1, 1, 1)) * fake
    terms = []
    for scale in range(2):
        slope = torch.zeros_like(mixed)
        for index in range(mixed.numel()):
            bump = torch.zeros_like(mixed).view(-1)
            bump[index] = 1e-6
            above, below = (
                made_scales(mixed + sign * bump.view_as(mixed), weights)[scale].sum().item() for sign in (1, -1)
            )
            slope.view(-1)[index] = (above - below) / 2e-6
        terms.append(((slope.pow(2).sum(1).sqrt() - 1) ** 2).mean())
    assert found.item() == pytest.approx(sum(terms).item() / 2, rel=1e-6)
    found.backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in weights)


def test_the_gradient_penalty_bears_a_flat_critic():
    real = torch.zeros(1, 3, 2, 2, 2)
    weights = [torch.zeros(1, 3, requires_grad=True)]
    penalty = losses.channel_gradient_penalty(lambda x: made_scales(x, weights), real, real, torch.tensor([0.5]))
    penalty.backward()
    assert float(penalty) == pytest.approx(1, abs=1e-4)
    assert weights[0].grad.isfinite().all()


def unit(n: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_info_nce_is_the_naive_loop():
    a, b, queue, tau = unit(3, 0), unit(3, 1), unit(5, 2), 0.07
    both, total = torch.cat([a, b]), 0.0
    for i in range(6):
        partner = (i + 3) % 6
        similar = [0.0 if j == i else float(both[i] @ both[j]) for j in range(6)]
        similar += [float(both[i] @ key) for key in queue]
        total -= math.log(math.exp(similar[partner] / tau) / sum(math.exp(s / tau) for s in similar))
    assert float(losses.info_nce(a, b, tau, queue)) == pytest.approx(total / 6, rel=1e-4)
    assert float(losses.info_nce(a, b, tau, queue[:0])) < float(losses.info_nce(a, b, tau, queue))


def test_the_papers_contrastive_loss_is_the_naive_loop():
    a, b, tau = unit(3, 0), unit(3, 1), 0.07
    views, total = {"a": a, "b": b}, 0.0
    for i in range(3):
        for alpha in "ab":
            against = sum(
                math.exp(float(views[alpha][i] @ views[beta][j]) / tau) for j in range(3) if j != i for beta in "ab"
            )
            total -= math.log(math.exp(float(a[i] @ b[i]) / tau) / against)
    assert float(losses.contrastive(a, b, tau)) == pytest.approx(total, rel=1e-4)
    assert float(losses.contrastive(a[:1], b[:1], tau)) == 0


def test_the_mutual_information_is_a_mean_cosine():
    guess, eps = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    expected = [
        float(guess[b, t] @ eps[b, t] / guess[b, t].norm() / eps[b, t].norm()) for b in range(2) for t in range(3)
    ]
    assert float(losses.cosine(guess, eps)) == pytest.approx(sum(expected) / 6, rel=1e-5)
    assert float(losses.cosine(eps, 3 * eps)) == pytest.approx(1)


def test_a_time_flip_leaves_the_distribution_alone():
    """Half of the calls turn the clips round, whole and all alike; a set that has each clip both ways stays itself."""
    clips = torch.randn(2, 3, 4, 2, 2)
    g = torch.Generator().manual_seed(0)
    seen = [losses.flipped_in_time(clips, g) for _ in range(400)]
    backwards = sum(torch.equal(x, clips.flip(2)) for x in seen)
    assert all(torch.equal(x, clips) or torch.equal(x, clips.flip(2)) for x in seen)
    assert 160 < backwards < 240  # 4 standard deviations
    both_ways = torch.cat([clips, clips.flip(2)])
    turned = both_ways.flip(2)
    assert torch.equal(turned[[2, 3, 0, 1]], both_ways)
