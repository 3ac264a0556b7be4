"""One contract over every critic design, and what is particular to each."""

import pytest
import torch
from torch import nn

from svgan.systems.stylevideogan.critics import DESIGNS
from svgan.systems.stylevideogan.critics.holistic import sparse_triples
from svgan.systems.stylevideogan.networks import make_critic
from svgan.training import losses, recipes

WIDTH = 6


def made(design: str, window: int = 25, **options: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_critic(recipes.make("tiny", critic=design, critic_widths=(16, 8), window=window, **options), WIDTH)


def codes(batch: int, window: int = 25) -> torch.Tensor:
    return torch.randn(batch, window, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("design", DESIGNS)
class TestEveryCritic:
    @pytest.mark.parametrize("window", [3, 4, 16, 25, 31])
    def test_one_score_per_clip(self, design: str, window: int):
        assert made(design, window)(codes(4, window)).shape == (4,)

    def test_the_shortest_window_works(self, design: str):
        window = DESIGNS[design].least_window
        assert made(design, window)(codes(2, window)).shape == (2,)

    def test_clips_do_not_see_one_another(self, design: str):
        critic, x = made(design), codes(4)
        torch.testing.assert_close(critic(x)[2:3], critic(x[2:3]), rtol=1e-5, atol=1e-6)

    def test_it_judges_order(self, design: str):
        critic, x = made(design), codes(4)
        assert not torch.allclose(critic(x), critic(x.flip(1)))

    def test_every_frame_and_every_weight_counts(self, design: str):
        critic, x = made(design), codes(4).requires_grad_()
        critic(x).sum().backward()
        assert (x.grad.abs().sum((0, 2)) > 0).all()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in critic.parameters())

    def test_it_is_a_function_of_its_clip_alone(self, design: str):
        critic, x = made(design), codes(4)
        assert torch.equal(critic(x), critic(x))

    def test_the_penalty_reaches_the_weights(self, design: str):
        critic = made(design)
        penalty = losses.gradient_penalty(critic, codes(4), codes(4).flip(0), torch.full((4,), 0.3))
        penalty.backward()
        assert torch.isfinite(penalty)
        assert critic.frame[0].weight.grad.abs().sum() > 0

    def test_it_learns_to_tell_smooth_from_rough(self, design: str):
        g = torch.Generator().manual_seed(0)
        rough = torch.randn(32, 25, WIDTH, generator=g)
        smooth = torch.randn(32, 1, WIDTH, generator=g).expand(-1, 25, -1)
        critic = made(design)
        optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3)
        for _ in range(40):
            penalty = losses.gradient_penalty(critic, smooth, rough, torch.rand(32, generator=g))
            loss = losses.wasserstein_critic(critic(smooth), critic(rough)) + 10 * penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert critic(smooth).mean() > critic(rough).mean() + 0.5


OWN = {"tconv": ("critic_kernel", 5, 9), "multiscale": ("critic_rates", 2, 3), "holistic": ("critic_starts", 4, 8)}


@pytest.mark.parametrize(("design", "option"), OWN.items())
def test_an_option_that_is_the_designs_own_changes_nothing_and_another_does(design: str, option: tuple):
    name, own, other = option
    plain = made(design)
    same, different = (made(design, **{name: value}) for value in (own, other))
    assert plain.state_dict().keys() == same.state_dict().keys()
    assert torch.equal(plain(codes(4)), same(codes(4)))
    assert not torch.allclose(plain(codes(4)), different(codes(4)))


@pytest.mark.parametrize("window", [2, 3, 4, 25])
@pytest.mark.parametrize("rates", [1, 2, 3])
def test_a_multiscale_critic_of_any_rates_judges_any_window(window: int, rates: int):
    critic = made("multiscale", window, critic_rates=rates)
    assert torch.isfinite(critic(codes(4, window))).all()
    assert sum("rate" in name for name, _ in critic.named_children()) == rates


def test_sizes_of_the_papers_critic():
    """Parameter counts of docs/papers.md#stylevideogan-critic: E 56.59 M, TConv 52 k, at 18 x 512 and 25 frames."""
    critic = make_critic(recipes.make("paper"), 18 * 512)
    frame = sum(p.numel() for p in critic.frame.parameters())
    rest = sum(p.numel() for p in critic.parameters()) - frame
    assert round(frame / 1e6, 2) == 56.59
    assert round(rest / 1e3) == 52


@pytest.mark.parametrize("window", [3, 4, 5, 8, 25, 26, 50])
def test_sparse_triples_cover_the_window(window: int):
    triples = sparse_triples(window)
    assert all(a < b < c for a, b, c in triples)
    assert {frame for triple in triples for frame in triple} == set(range(window))


def test_sparse_triples_span_powers_of_two():
    triples = sparse_triples(25)
    assert len(triples) == 26
    assert {c - a for a, _, c in triples} == {2, 4, 8, 16}
