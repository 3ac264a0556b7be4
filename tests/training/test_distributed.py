"""Two gloo workers at half the batch against one worker: equal gradients, equal runs, agreed failures."""

import math
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from made_runs import made_clips, made_state, numbers, small

from svgan.errors import NonFiniteLoss, UserError
from svgan.torch_utils.distributed import SINGLE, Process, current_process
from svgan.training.loop import train
from svgan.training.registry import iterate


class Counted:
    """A process that counts its exchanges."""

    def __init__(self, process: Process):
        self.process, self.rank, self.world, self.exchanges = process, process.rank, process.world, 0

    def mean_(self, tensors) -> None:
        self.exchanges += 1
        self.process.mean_(tensors)

    def any(self, flag: bool) -> bool:
        return self.process.any(flag)


def one_iteration(process: Process, latents: Path, **what) -> dict:
    state, counted = made_state(latents, n_critic=1, **what), Counted(process)
    figures = iterate(state, made_clips(latents, state.config), counted)
    return {"tensors": numbers(state), "figures": figures, "exchanges": counted.exchanges}


def one_fast_iteration(process: Process, latents: Path) -> dict:
    return one_iteration(process, latents, iteration="fast")


def one_acyclic_iteration(process: Process, latents: Path) -> dict:
    return one_iteration(process, latents, motion="acyclic", iteration="plain", gap_weight=0)


def three_steps(process: Process, latents: Path) -> dict:
    config = small(steps=3)
    state = train(config, made_clips(latents, config), process=process, report_every=1, evaluate=lambda s: {"seen": 1})
    return {"tensors": numbers(state), "history": state.history}


class PoisonedForOne:
    """Clips that are NaN on the last rank from step 1 on."""

    def __init__(self, clips):
        self.clips, self.space = clips, clips.space

    def draw(self, n: int, *, step: int, rank: int, world: int, **where) -> torch.Tensor:
        clips = self.clips.draw(n, step=step, rank=rank, world=world, **where)
        return clips * math.nan if step >= 1 and rank == world - 1 else clips


def poisoned(process: Process, latents: Path) -> dict:
    state = made_state(latents)
    with pytest.raises(NonFiniteLoss) as caught:
        train(state.config, PoisonedForOne(made_clips(latents, state.config)), state=state, process=process)
    finite = all(bool(t.isfinite().all()) for t in state.tensors().values())
    return {"error": str(caught.value), "step": state.step, "finite": finite}


def agreement(process: Process, latents: Path) -> dict:
    tensors = [torch.full((2, 3), float(process.rank)), torch.tensor(float(process.rank + 1))]
    process.mean_(tensors)
    return {"any": [process.any(process.rank == 1), process.any(False)], "means": tensors, "world": process.world}


def uneven(process: Process, latents: Path) -> dict:
    config = small(batch=7)
    with pytest.raises(UserError) as caught:
        train(config, made_clips(latents, config), process=process)
    return {"error": str(caught.value)}


ITERATIONS = (one_iteration, one_fast_iteration, one_acyclic_iteration)
TASKS = {task.__name__: task for task in (*ITERATIONS, three_steps, poisoned, agreement, uneven)}


def as_rank(rank: int, world: int, folder: str, latents: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=world, timeout=timedelta(minutes=10)
    )
    try:
        process = current_process()
        torch.save({name: task(process, Path(latents)) for name, task in TASKS.items()}, f"{folder}/{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "made-latents"


@pytest.fixture(scope="module")
def ranks(latents: Path) -> list[dict]:
    """What every task gave on each of two ranks."""
    made_clips(latents, small())
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(as_rank, (2, folder, str(latents)), nprocs=2)
        return [torch.load(f"{folder}/{rank}.pt") for rank in range(2)]


def assert_close(ours: dict, theirs: dict) -> None:
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_one_exchange_averages_and_one_worker_is_enough_to_agree(ranks: list[dict]):
    for rank in ranks:
        means, agreed = rank["agreement"]["means"], rank["agreement"]["any"]
        assert torch.equal(means[0], torch.full((2, 3), 0.5))
        assert means[1] == 1.5
        assert agreed == [True, False]
        assert rank["agreement"]["world"] == 2


@pytest.mark.parametrize("task", [task.__name__ for task in ITERATIONS])
def test_two_workers_have_one_workers_gradients(ranks: list[dict], latents: Path, task: str):
    """Adam's first average after a step is (1 - beta1) times the gradient; GAP's is in H's and P's."""
    single = TASKS[task](SINGLE, latents)
    averages = {n: t for n, t in single["tensors"].items() if n.endswith("exp_avg")}
    assert all(t.abs().sum() > 0 for n, t in averages.items() if "score" not in n)
    for rank in ranks:
        assert_close(rank[task]["tensors"], averages)
        assert_close(rank[task]["figures"], single["figures"])


def test_gradients_are_exchanged_once_for_each_step_of_an_optimiser(ranks: list[dict]):
    assert all(rank[task.__name__]["exchanges"] == 2 for rank in ranks for task in ITERATIONS)


def test_gaps_running_moments_are_the_global_batchs(ranks: list[dict], latents: Path):
    single = {n: t for n, t in one_iteration(SINGLE, latents)["tensors"].items() if n.startswith("running.")}
    for rank in ranks:
        assert_close(rank["one_iteration"]["tensors"], single)


def test_ranks_stay_equal_to_the_bit(ranks: list[dict]):
    one, other = (rank["three_steps"] for rank in ranks)
    assert all(torch.equal(t, other["tensors"][n]) for n, t in one["tensors"].items())


def test_two_workers_train_one_workers_run(ranks: list[dict], latents: Path):
    single = three_steps(SINGLE, latents)
    for ours, theirs in zip(ranks[0]["three_steps"]["history"], single["history"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-3)


def test_only_rank_0_evaluates(ranks: list[dict]):
    assert all("seen" in entry for entry in ranks[0]["three_steps"]["history"])
    assert not any("seen" in entry for entry in ranks[1]["three_steps"]["history"])


def test_a_nan_on_one_rank_stops_both(ranks: list[dict]):
    for rank in ranks:
        assert "critic_loss is nan at step 1" in rank["poisoned"]["error"]
        assert rank["poisoned"]["step"] == 1
        assert rank["poisoned"]["finite"]


def test_a_batch_that_does_not_divide_is_refused(ranks: list[dict]):
    assert all("batch: 7 clips do not divide among 2 workers" in rank["uneven"]["error"] for rank in ranks)
