"""The losses against a critic whose gradient is known."""

import torch

from svgan.training import losses

DOUBLE = torch.float64


def test_wasserstein_signs():
    real, fake = torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0])
    assert losses.wasserstein_critic(real, fake).item() == 1.5 - 4.0
    assert losses.wasserstein_generator(fake).item() == -1.5


def test_gradient_penalty_of_a_linear_critic_is_known():
    """C(x) = <w, x> has the gradient w everywhere: the penalty is (||w|| - 1)^2 over all T K entries."""
    g = torch.Generator().manual_seed(0)
    w = torch.randn(5, 7, generator=g, dtype=DOUBLE).requires_grad_()
    real, fake = torch.randn(2, 4, 5, 7, generator=g, dtype=DOUBLE)
    penalty = losses.gradient_penalty(lambda x: (x * w).sum((1, 2)), real, fake, torch.rand(4, generator=g).double())
    norm = w.norm()
    torch.testing.assert_close(penalty, (norm - 1) ** 2)
    (by_w,) = torch.autograd.grad(penalty, w)
    torch.testing.assert_close(by_w, (2 * (norm - 1) * w / norm).detach())


def test_gradient_penalty_is_taken_between_real_and_fake():
    """C(x) = ||x||^2 / 2 has the gradient x: the penalty tells where it was taken, per clip."""
    g = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 3, 4, 2, generator=g, dtype=DOUBLE)
    eps = torch.tensor([0.0, 1.0, 0.25], dtype=DOUBLE)
    penalty = losses.gradient_penalty(lambda x: x.square().sum((1, 2)) / 2, real, fake, eps)
    points = [fake[0], real[1], 0.25 * real[2] + 0.75 * fake[2]]
    expected = torch.stack([(p.norm() - 1) ** 2 for p in points]).mean()
    torch.testing.assert_close(penalty, expected)
