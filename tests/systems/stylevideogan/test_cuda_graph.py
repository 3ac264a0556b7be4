"""An iteration as a CUDA graph: on a GPU against the eager one, on a CPU its operations, repeated as by a graph."""

import gc

import pytest
import torch
from test_fast import Clips
from test_fast import made as made_state
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from svgan.errors import NonFiniteLoss
from svgan.systems.stylevideogan import fast
from svgan.systems.stylevideogan.critics import DESIGNS
from svgan.systems.stylevideogan.fast.cuda_graph import GRAPHS, WARM_UP, HeldDraws
from svgan.systems.stylevideogan.fast.step import move
from svgan.systems.stylevideogan.step import Draws
from svgan.torch_utils.distributed import SINGLE
from svgan.training import optimize
from svgan.training.loop import train

LOOKS = ("_local_scalar_dense", "nonzero", "equal.", "masked_select", "is_nonzero")  # for which a program would wait
RANDOM = ("rand", "normal", "bernoulli", "uniform")


class Tape(TorchDispatchMode):
    """What a CUDA graph keeps of a program: its operations, on the places in memory that they were on."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__
        assert not name.startswith(LOOKS), f"{name} reads a number, which stops a capture"
        assert not name.startswith(RANDOM), f"{name} draws, and would draw the same for ever"
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made

    @torch.no_grad()
    def play(self) -> None:
        for func, args, kwargs, made in self.calls:
            for before, now in zip(tree_leaves(made), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(before, Tensor) and before.data_ptr() != now.data_ptr():
                    before.copy_(now)


def tensors(state):
    return {name: tensor.detach().clone() for name, tensor in state.tensors().items()}


@pytest.fixture
def looked_at_later(monkeypatch):
    """As on a GPU: nobody looks for NaN between two reports."""
    monkeypatch.setattr(optimize, "require_finite", lambda figures, number: None)


@pytest.mark.parametrize("critic", DESIGNS)
@pytest.mark.parametrize("gap_weight", [0.0, 20.0])
def test_repeated_operations_are_iterations(critic, gap_weight, looked_at_later):
    """Recorded once and played with other draws, they move everything as iterations do that are issued anew."""
    eager, taped = (made_state("uneven", torch.float32, critic=critic, gap_weight=gap_weight) for _ in range(2))
    held, tape = HeldDraws(Draws(taped, Clips(taped), SINGLE), taped.config.n_critic), Tape()
    for number in range(4):
        eager.step = taped.step = number
        expected = fast.iterate(eager, Clips(eager), SINGLE)
        held.take(Draws(taped, Clips(taped), SINGLE))
        if number:
            tape.play()
        else:
            with tape:
                figures = move(taped, held, SINGLE)
        torch.testing.assert_close(figures, expected, rtol=0, atol=0)
    torch.testing.assert_close(tensors(taped), tensors(eager), rtol=0, atol=0)
    assert len(tape.calls) > 100


def test_what_changes_between_steps_is_seen(looked_at_later):
    """The test above can fail: a number of the program's own, here GAP's weight, is another one on the tape."""
    eager, taped = (made_state("uneven", torch.float32, gap_weight=20.0, gap_every=2) for _ in range(2))
    held, tape = HeldDraws(Draws(taped, Clips(taped), SINGLE), taped.config.n_critic), Tape()
    with tape:
        move(taped, held, SINGLE)
    fast.iterate(eager, Clips(eager), SINGLE)
    eager.step = taped.step = 1
    held.take(Draws(taped, Clips(taped), SINGLE))
    tape.play()
    fast.iterate(eager, Clips(eager), SINGLE)
    assert any(not torch.equal(a, b) for a, b in zip(taped.motion.parameters(), eager.motion.parameters(), strict=True))


def test_without_a_gpu_it_is_the_fast_iteration():
    graphed, eager = (made_state("uneven", torch.float32, gap_weight=20.0, iteration=way) for way in ("graph", "fast"))
    for iterate, state in ((fast.cuda_graph.iterate, graphed), (fast.iterate, eager)):
        iterate(state, Clips(state), SINGLE)
    torch.testing.assert_close(tensors(graphed), tensors(eager), rtol=0, atol=0)
    assert graphed not in GRAPHS


class Windows(Clips):
    """As much of a source as the loop asks for."""

    def __init__(self, state):
        super().__init__(state)
        self.space = state.space


def test_a_number_that_is_none_is_told_at_the_report_and_nothing_is_kept(looked_at_later, tmp_path):
    from svgan.training.checkpoint_manager import FolderKeeper

    state = made_state("uneven", torch.float32, steps=6, lr=1e30)
    with pytest.raises(NonFiniteLoss, match=r"is (nan|inf|-inf) after the last report"):
        train(state.config, Windows(state), state=state, keeper=FolderKeeper(tmp_path), report_every=6)
    assert not list(tmp_path.glob("*"))


@pytest.mark.gpu
@pytest.mark.parametrize("critic", DESIGNS)
@pytest.mark.parametrize("sizes", [dict(gap_weight=20.0), dict(gap_weight=20.0, gap_every=2), dict(gap_weight=0.0)])
def test_on_a_gpu_graphs_move_all_as_eager_iterations_do(critic, sizes):
    for size in ("uneven", "layers", "tiny"):
        graphed, eager = (made_state(size, torch.float32, "cuda", critic=critic, **sizes) for _ in range(2))
        for number in range(4 * WARM_UP):
            eager.step = graphed.step = number
            figures = fast.cuda_graph.iterate(graphed, Clips(graphed), SINGLE)
            expected = fast.iterate(eager, Clips(eager), SINGLE)
            torch.testing.assert_close(figures, expected, rtol=1e-3, atol=1e-4)
        assert len(GRAPHS[graphed].captured) == (2 if "gap_every" in sizes else 1)
        torch.testing.assert_close(tensors(graphed), tensors(eager), rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_on_a_gpu_the_loop_waits_for_nothing_between_reports():
    state = made_state("tiny", torch.float32, "cuda", iteration="graph")
    clips = Clips(state)
    for _ in range(WARM_UP + 2):
        fast.cuda_graph.iterate(state, clips, SINGLE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        fast.cuda_graph.iterate(state, clips, SINGLE)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_states_graphs_go_with_it():
    state = made_state("small", torch.float32, "cuda")
    for _ in range(WARM_UP + 1):
        fast.cuda_graph.iterate(state, Clips(state), SINGLE)
    assert state in GRAPHS
    del state
    gc.collect()
    assert not GRAPHS
