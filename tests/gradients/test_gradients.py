"""The gradients that training uses equal those of automatic differentiation, for every critic, with and without GAP."""

import pytest
import torch
from torch import Tensor, nn

from svgan import recipes
from svgan.critics import DESIGNS, linearised
from svgan.gradients import FAST, PLAIN
from svgan.gradients.found import Found
from svgan.latents.stats import Space
from svgan.layers import standardised
from svgan.motion.noise import Noise
from svgan.state import State

SIZES = {
    "smallest": dict(width=2, noise=3, trunk=(3,), critic_widths=(2,), window=3, batch=1),
    "uneven": dict(width=6, noise=4, trunk=(9, 7), critic_widths=(8, 6), window=10, batch=4),
    "tiny": dict(),
}
LIMITS = {torch.float64: 1e-10, torch.float32: 1e-4}
COMPONENTS = 5


def made(critic: str, size: str, dtype: torch.dtype, gap_weight: float, device: str = "cpu") -> State:
    config = recipes.tiny(components=COMPONENTS, critic=critic, gap_weight=gap_weight, **SIZES[size])
    state = State.build(config, Space("pca", 3, 8, COMPONENTS), device=device)
    for module in (state.motion, state.critic, state.running):
        module.to(dtype)
    g = torch.Generator().manual_seed(5)
    state.running.first.copy_(0.3 * torch.randn(config.width, generator=g))
    state.running.second.add_(1.5)
    return state


def noise(state: State, seed: int = 0) -> Noise:
    drawn = state.motion.draw(state.config.batch, state.config.window, torch.Generator().manual_seed(seed))
    kind = {"dtype": state.running.first.dtype, "device": state.device}
    return Noise(drawn.i.to(**kind), drawn.s.to(**kind))


def clips(state: State) -> tuple[Tensor, Tensor, Tensor]:
    g, config = torch.Generator().manual_seed(1), state.config
    kind = {"dtype": state.running.first.dtype, "device": state.device}
    real, fake = torch.randn(2, config.batch, config.window, COMPONENTS, generator=g).to(**kind)
    return real, fake, torch.rand(config.batch, generator=g).to(**kind)


def apart(found: Found, expected: Found) -> float:
    """The largest difference of any tensor, relative to its largest number."""
    pairs = zip(
        [*found.gradients, *found.figures.values(), *found.moments],
        [*expected.gradients, *expected.figures.values(), *expected.moments],
        strict=True,
    )
    return max(float(((a - b).abs().max() / (b.abs().max() + 1e-12)).detach()) for a, b in pairs)


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("critic", DESIGNS)
def test_the_critics_gradients_are_those_of_automatic_differentiation(critic, size, dtype):
    state = made(critic, size, dtype, 1.0)
    found = FAST.critic(state, *clips(state))
    assert apart(found, PLAIN.critic(state, *clips(state))) < LIMITS[dtype]


@pytest.mark.parametrize("gap_weight", [0.0, 20.0])
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_the_generators_gradients_are_those_of_automatic_differentiation(size, dtype, gap_weight):
    state = made("tconv", size, dtype, gap_weight)
    expected = PLAIN.generator(state, noise(state))
    assert not gap_weight or expected.figures["gap"] > 0
    assert apart(FAST.generator(state, noise(state)), expected) < LIMITS[dtype]


@pytest.mark.parametrize("design", [critic for critic in DESIGNS if DESIGNS[critic].options])
@pytest.mark.parametrize("window", [3, 5, 24, 25])
def test_every_option_of_a_critic_has_its_gradient_in_closed_form(design, window):
    for option, values in DESIGNS[design].options.items():
        for value in {min(values), max(values)}:
            critic = DESIGNS[design](COMPONENTS, (6, 4), window, **{option: value}).double()
            codes = torch.randn(2, window, COMPONENTS, dtype=torch.float64, requires_grad=True)
            (expected,) = torch.autograd.grad(critic(codes).sum(), codes)
            torch.testing.assert_close(critic.input_gradient(codes.detach()), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("critic", DESIGNS)
@pytest.mark.parametrize("gap_weight", [0.0, 20.0])
def test_on_a_gpu_too(critic, gap_weight):
    state = made(critic, "tiny", torch.float64, gap_weight, "cuda")
    assert apart(FAST.critic(state, *clips(state)), PLAIN.critic(state, *clips(state))) < LIMITS[torch.float64]
    assert apart(FAST.generator(state, noise(state)), PLAIN.generator(state, noise(state))) < LIMITS[torch.float64]


def test_all_turns_fakes_are_those_of_one_turn_after_another():
    state = made("tconv", "uneven", torch.float64, 1.0)
    noises = [noise(state, seed) for seed in range(3)]
    for together, alone in zip(FAST.latents(state, noises), PLAIN.latents(state, noises), strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_a_layer_that_bends_otherwise_has_no_closed_form():
    layers = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    _, entered = linearised.forward(layers, torch.randn(4, 3))
    with pytest.raises(TypeError, match="Tanh"):
        linearised.backward(layers, entered, torch.ones(4, 2))


def test_the_gradient_of_a_derivative_of_the_layer_norm_is_right():
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 5, dtype=torch.float64, generator=g, requires_grad=True)
    x, along = torch.randn(2, 3, 5, dtype=torch.float64, generator=g)
    by = torch.randn(3, 6, dtype=torch.float64, generator=g)

    def moved(weight: Tensor) -> Tensor:
        return (torch.func.jvp(lambda x: standardised(x @ weight.T), (x,), (along,))[1] * by).sum()

    (found,) = torch.autograd.grad(moved(weight), weight)
    step = torch.randn(weight.shape, dtype=torch.float64, generator=g)
    numeric = (moved(weight + 1e-6 * step) - moved(weight - 1e-6 * step)) / 2e-6
    assert float((found * step).sum()) == pytest.approx(float(numeric), rel=1e-6)
