"""Both iterations against the reference: losses and every weight's gradient, each critic, with and without GAP."""

import resource
from contextlib import contextmanager

import pytest
import torch
from reference import Reference
from torch import Tensor, nn

from svgan.latents.spaces import Space
from svgan.systems.stylevideogan import fast, step
from svgan.systems.stylevideogan.critics import DESIGNS
from svgan.systems.stylevideogan.fast.critic import LinearCritic
from svgan.systems.stylevideogan.fast.initial_memory import InitialMemory
from svgan.systems.stylevideogan.fast.linear_chain import layers_of
from svgan.torch_utils.distributed import SINGLE
from svgan.torch_utils.malloc import keep_memory
from svgan.training import recipes, registry
from svgan.training.state import State

SIZES = {
    "small": dict(width=4, noise=3, trunk=(3,), critic_widths=(3,), window=3, batch=1, n_critic=1),
    "uneven": dict(width=6, noise=4, trunk=(9, 7), critic_widths=(8, 6), window=10, batch=4, n_critic=2),
    "folded": dict(
        width=4, noise=4, trunk=(5, 2), critic_widths=(12, 5), window=12, batch=6, n_critic=2, components=40
    ),
    "layers": dict(space="wplus", width=5, noise=7, trunk=(6,), critic_widths=(9, 4), window=8, batch=3, n_critic=1),
    "tiny": dict(),
}
# float64 shows that the formulas are equal. In float32 a LeakyReLU's input near 0 may round to the other side.
LIMITS = {torch.float64: 1e-10, torch.float32: 1e-2}


class Clips:
    """Noise for real clips."""

    def __init__(self, state: State):
        self.shape, self.like = (state.config.window, state.space.width), state.running.first

    def draw(self, n, *, seed, step, stream=0, rank=0, world=1):
        g = torch.Generator().manual_seed(1000 * step + stream)
        return torch.randn(n, *self.shape, generator=g).to(self.like)


def made(size: str, dtype: torch.dtype, device: str = "cpu", **overrides) -> State:
    values = {**SIZES[size], "iteration": "fast", **overrides}
    config = recipes.make("tiny", **({"components": 5} | values if "space" not in values else values))
    space = Space(config.space, 3, 8, config.components or 24)
    state = registry.build_state(config, space, device=device)
    for module in (state.motion, state.ema, state.critic, state.running):
        module.to(dtype)
    g = torch.Generator().manual_seed(5)
    state.running.first.copy_(0.3 * torch.randn(config.width, generator=g))
    state.running.second.add_(1.5)
    state.motion.spread.copy_(torch.rand(space.width, generator=g) + 0.5)
    return state


class Recorded:
    """A process that keeps what is exchanged: every gradient, every figure."""

    rank, world = 0, 1

    def __init__(self):
        self.seen: list[list[Tensor]] = []

    def mean_(self, tensors):
        self.seen.append([t.detach().clone() for t in tensors])

    def any(self, flag):
        return flag


@contextmanager
def drawn_as(state: State, monkeypatch):
    """The same draws, in the type of the weights."""
    like, drawn, rand = state.running.first, step.draw_noise, torch.rand

    def noise(*of):
        made = drawn(*of)
        return type(made)(made.i.to(like), made.s.to(like))

    with monkeypatch.context() as patch:
        patch.setattr(step, "draw_noise", noise)
        patch.setattr(torch, "rand", lambda *a, **k: rand(*a, **k).to(like))
        yield patch


def gradients(state: State, iterate, monkeypatch) -> list[list[Tensor]]:
    """Gradients and figures of every step of one iteration, from the same weights: the optimisers stand still."""
    process = Recorded()
    with drawn_as(state, monkeypatch) as patch:
        for optimizer in (state.motion_optimizer, state.critic_optimizer):
            patch.setattr(optimizer, "step", lambda: None)
        first, second = state.running.first.clone(), state.running.second.clone()
        iterate(state, Clips(state), process)
        state.running.first.copy_(first)
        state.running.second.copy_(second)
    return [seen[: 1 + max(at for at, t in enumerate(seen) if t.ndim == 0)] for seen in process.seen]


def references(state: State, monkeypatch) -> list[list[Tensor]]:
    """`gradients` of the reference."""
    reference, found = Reference(state), []
    with drawn_as(state, monkeypatch) as patch:
        for optimizer in (reference.critic_optimizer, reference.motion_optimizer):
            patch.setattr(optimizer, "step", lambda: None)
        for turn in range(state.config.n_critic):
            figures = reference.critic_step(Clips(state), turn)
            found.append([*(p.grad.clone() for p in reference.critic.parameters()), *figures.values()])
        figures = reference.generator_step()
    by_weights = reference.motion.as_ours([p.grad for p in reference.motion.parameters()])
    return [*found, [*by_weights, *figures.values()]]


def apart(found: list[list[Tensor]], expected: list[list[Tensor]], limit: float) -> float:
    """The largest difference of any gradient, relative to its largest number, or to a thousandth of its step's largest
    where its own is smaller: the gradient by a score's bias is a sum of nothing but rounding. Figures are compared with
    the limit here."""
    worst = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        floor = 1e-3 * max(float(b.abs().max()) for b in theirs if b.ndim)
        for a, b in zip(ours, theirs, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            if b.ndim:
                worst = max(worst, float((a - b).abs().max()) / max(floor, float(b.abs().max())))
            else:
                assert float(a) == pytest.approx(float(b), rel=limit, abs=limit)
    return worst


def equals_the_reference(state: State, monkeypatch) -> None:
    limit = LIMITS[state.running.first.dtype]
    expected = references(state, monkeypatch)
    for iterate in (step.iterate, fast.iterate):
        assert apart(gradients(state, iterate, monkeypatch), expected, limit) < limit


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("critic", DESIGNS)
@pytest.mark.parametrize("gap_weight", [0.0, 20.0])
def test_every_figure_and_gradient_is_the_references(critic, size, dtype, gap_weight, monkeypatch):
    equals_the_reference(made(size, dtype, critic=critic, gap_weight=gap_weight), monkeypatch)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("critic", DESIGNS)
@pytest.mark.parametrize("gap_weight", [0.0, 20.0])
def test_on_a_gpu_too(critic, gap_weight, dtype, monkeypatch):
    for size in SIZES:
        equals_the_reference(made(size, dtype, "cuda", critic=critic, gap_weight=gap_weight), monkeypatch)


@pytest.mark.parametrize("window", [3, 5, 24, 25])
@pytest.mark.parametrize("critic", DESIGNS)
def test_every_option_of_a_critic(critic, window, monkeypatch):
    for option, values in DESIGNS[critic].options.items():
        for value in {min(values), max(values)}:
            sizes = dict(window=window, critic=critic, n_critic=1, **{f"critic_{option}": value})
            state = made("small", torch.float64, **sizes)
            expected = gradients(state, step.iterate, monkeypatch)
            assert apart(gradients(state, fast.iterate, monkeypatch), expected, 1e-10) < 1e-10


class Smooth(nn.Module):
    """A critic that bends everywhere, so that its penalty needs automatic differentiation."""

    def __init__(self):
        super().__init__()
        self.frame, self.end = nn.Sequential(nn.Linear(5, 4), nn.Tanh()), nn.Linear(4, 1)

    def forward(self, codes):
        return self.end(self.frame(codes)).mean((1, 2))


def test_any_other_critic_is_left_to_automatic_differentiation(monkeypatch):
    state = made("uneven", torch.float64, gap_weight=20.0)
    state.critic = Smooth().double()
    assert LinearCritic.from_module(state.critic) is None
    expected = gradients(state, step.iterate, monkeypatch)
    assert apart(gradients(state, fast.iterate, monkeypatch), expected, 1e-10) < 1e-10


def test_a_head_that_bends_otherwise_is_none_of_ours():
    state = made("uneven", torch.float64, critic="multiscale")
    assert LinearCritic.from_module(state.critic) is not None
    state.critic.full_rate.append(nn.Sigmoid())
    assert LinearCritic.from_module(state.critic) is None
    with pytest.raises(TypeError, match="Tanh"):
        layers_of(nn.Sequential(nn.Linear(3, 2), nn.Tanh()))


def test_gap_in_every_third_step_is_three_times_as_heavy_there(monkeypatch):
    every, whole = (made("uneven", torch.float64, gap_weight=20.0 * k, gap_every=n) for k, n in ((1, 3), (3, 1)))
    none = made("uneven", torch.float64, gap_weight=0.0)
    for number, other in ((0, whole), (1, none), (2, none), (3, whole)):
        for state in (every, other):
            state.step = number
        equals_the_reference(every, monkeypatch)
        found, expected = (gradients(state, step.iterate, monkeypatch) for state in (every, other))
        assert apart(found, expected, 1e-10) == 0


def test_rounded_products_are_near_and_only_within(monkeypatch):
    """The recurrence and GAP keep float32. Figures within 2 %, a gradient within 10 % of its largest number."""
    state = made("tiny", torch.float32, gap_weight=20.0)
    rounded = made("tiny", torch.float32, gap_weight=20.0, precision="bfloat16")
    seen = []
    there = fast.step.critic_gradients
    flag = torch.backends.mkldnn.matmul
    monkeypatch.setattr(fast.step, "critic_gradients", lambda *a: seen.append(flag.fp32_precision) or there(*a))
    before = flag.fp32_precision
    expected = gradients(state, fast.iterate, monkeypatch)
    assert apart(gradients(rounded, fast.iterate, monkeypatch), expected, 0.02) < 0.1
    turns = state.config.n_critic
    assert seen == [before] * turns + ["bf16"] * turns
    assert flag.fp32_precision == before


def test_the_first_weights_act_on_features_where_that_is_less_work(monkeypatch):
    state, seen = made("folded", torch.float32), []
    made_of = fast.step.all_fakes
    monkeypatch.setattr(fast.step, "all_fakes", lambda *of: [seen.append(one.codes) or one for one in made_of(*of)])
    fast.iterate(state, Clips(state), SINGLE)
    assert seen == [None] * state.config.n_critic


@pytest.mark.parametrize("iterate", [step.iterate, fast.iterate])
def test_iterations_move_all_that_moves_as_the_reference_does(iterate, monkeypatch):
    """Two whole iterations in float64, with optimisers, EMA and running moments."""
    state = made("layers", torch.float64, critic="holistic", gap_weight=20.0, n_critic=2)
    for optimizer in (state.motion_optimizer, state.critic_optimizer):
        for averages in optimizer.state.values():
            averages |= {key: averages[key].double() for key in ("exp_avg", "exp_avg_sq")}
    reference, figures = Reference(state), []
    with drawn_as(state, monkeypatch):
        for _ in range(2):
            figures.append((iterate(state, Clips(state), SINGLE), reference.iterate(Clips(state))))
            state.step += 1
    for ours, theirs in figures:
        assert {name: float(ours[name]) for name in theirs} == pytest.approx({n: float(t) for n, t in theirs.items()})
    for name in ("motion", "ema"):
        expected = getattr(reference, name).as_ours(list(getattr(reference, name).parameters()))
        torch.testing.assert_close(list(getattr(state, name).parameters()), expected, rtol=1e-8, atol=1e-10)
    for name in ("critic", "running"):
        ours, expected = (getattr(of, name).state_dict() for of in (state, reference))
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("iterate", [step.iterate, fast.iterate])
@pytest.mark.parametrize("critic", DESIGNS)
def test_adam_takes_each_gradient_in_the_order_of_its_weights(critic, iterate):
    """A trap: the fused one reads a transposed gradient as if it were not (docs/traps.md)."""
    state, process = made("uneven", torch.float32, critic=critic, n_critic=1), Recorded()
    iterate(state, Clips(state), process)
    for module, optimizer, seen in zip(
        (state.critic, state.motion), (state.critic_optimizer, state.motion_optimizer), process.seen, strict=True
    ):
        for parameter, gradient in zip(module.parameters(), seen, strict=False):
            torch.testing.assert_close(optimizer.state[parameter]["exp_avg"], 0.5 * gradient)


def test_the_first_memories_and_their_movement_have_the_right_gradients():
    """Against plain differentiation of plain operations: of torch's own layer norm the derivative along a direction has
    a wrong gradient (docs/traps.md)."""
    motion, g = made("uneven", torch.float64).motion, torch.Generator().manual_seed(0)
    i, along = torch.randn(2, 3, 6, dtype=torch.float64, generator=g)
    by_memory, by_moved = torch.randn(2, 4, 3, 6, dtype=torch.float64, generator=g)

    def memory(i: Tensor) -> Tensor:
        x = motion.hallucinate(i).unflatten(1, (3, 6))
        x = x - x.mean(-1, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)
        return torch.cat([x, i[:, None]], 1).transpose(0, 1)

    value, moved = torch.func.jvp(memory, (i,), (along,))
    total = (value * by_memory).sum() + (moved * by_moved).sum()
    expected = torch.autograd.grad(total, list(motion.hallucinate.parameters()))
    first = InitialMemory.compute(motion, i)
    start = first.jvp(along)
    torch.testing.assert_close(first.memory, motion.first_memory(i).detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(start.memory, moved.detach(), rtol=1e-10, atol=1e-12)
    for found, right in zip(first.weight_gradients(by_memory, start, by_moved), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


def test_an_iteration_uses_the_memory_that_the_one_before_it_freed():
    """Its blocks are larger than those that glibc keeps by itself."""
    state = made("tiny", torch.float32, components=16, critic_widths=(512, 32), batch=64, n_critic=2)
    assert keep_memory()
    for _ in range(2):
        fast.iterate(state, Clips(state), SINGLE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        fast.iterate(state, Clips(state), SINGLE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000
