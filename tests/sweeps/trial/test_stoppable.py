"""What ranks agree on before a step: the greatest that any of them asks for, at the same step of each."""

import threading
from types import SimpleNamespace

import pytest

from sweeps.trial import stoppable
from sweeps.trial.stoppable import Agreement, Halted, Order, StoppableIteration


class Together:
    """Ranks that are threads: an exchange that all of them enter, or the test fails by its time limit."""

    def __init__(self, world: int) -> None:
        self.world, self.given = world, {}
        self.barrier = threading.Barrier(world, timeout=60)

    def rank(self, number: int) -> SimpleNamespace:
        def greatest(numbers):
            self.given[number] = numbers
            self.barrier.wait()
            found = [max(column) for column in zip(*self.given.values(), strict=True)]
            self.barrier.wait()
            return found

        return SimpleNamespace(rank=number, world=self.world, greatest=greatest)


def iteration(asks, kept, *, halts_at=None, leaves_at=None, keeps_at=None):
    """A stoppable iteration that counts its steps. asks: the steps at which Ray was asked for a drain."""
    state = SimpleNamespace(step=0, config=SimpleNamespace(steps=100))

    def stopping():
        return halts_at is not None and state.step >= halts_at

    stopping.plan = SimpleNamespace(search=SimpleNamespace(seeds=1))

    def step(state, source, process):
        state.step += 1
        return {}

    def drained():
        asks.append(state.step)
        return False

    made = StoppableIteration(
        step,
        SimpleNamespace(beat=lambda what, done, total: None),
        stopping,
        SimpleNamespace(
            terminated=lambda: leaves_at is not None and state.step >= leaves_at,
            due=lambda: state.step % 7 == 0,
            drained=drained,
        ),
        SimpleNamespace(due=lambda: keeps_at is not None and not kept and state.step >= keeps_at),
    )
    made.keep = lambda state: kept.append(state.step)
    return made, state


def both(*asked, steps=100):
    """What two ranks do: the step and the way of their end, the steps kept, those at which Ray was asked."""
    group, ends = Together(2), [None, None]

    def run(number):
        asks, kept = [], []
        made, state = iteration(asks, kept, **asked[number])
        end = None
        try:
            for _ in range(steps):
                made(state, None, group.rank(number))
        except Halted as halted:
            end = "leaves" if halted.leaving else "halts"
        ends[number] = (state.step, end, kept, asks)

    ranks = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join()
    return ends


@pytest.mark.parametrize(
    ("asked", "end"),
    [
        (({}, {}), None),
        (({"halts_at": 40}, {}), "halts"),
        (({}, {"halts_at": 40}), "halts"),
        (({}, {"leaves_at": 40}), "leaves"),
        (({"leaves_at": 40}, {"halts_at": 40}), "halts"),
    ],
)
def test_ranks_end_at_one_step_whoever_asked(asked, end):
    first, second = both(*asked)
    assert first == second
    assert first[1] == end
    assert 40 <= first[0] <= 40 + stoppable.AGREE_EVERY if end else first[0] == 100
    assert first[3], "Ray was asked for a drain, by both ranks at the same steps"


def test_a_checkpoint_that_is_due_on_one_rank_is_made_by_both_and_they_go_on():
    first, second = both({"keeps_at": 30}, {})
    assert first == second
    assert first[:2] == (100, None)
    assert len(first[2]) == 1
    assert 30 <= first[2][0] <= 30 + stoppable.AGREE_EVERY


def test_one_worker_heeds_a_notice_at_its_next_step_and_a_stop_before_it():
    made, state = iteration([], [], leaves_at=3)
    alone = SimpleNamespace(world=1)
    for _ in range(3):
        made(state, None, alone)
    with pytest.raises(Halted) as left:
        made(state, None, alone)
    assert (left.value.leaving, left.value.state.step) == (True, 3)
    assert max(Order.LEAVE, Order.HALT) is Order.HALT


def test_slow_steps_are_agreed_on_more_often():
    now = 0.0
    agreement = Agreement(lambda: now)
    alone = SimpleNamespace(greatest=list)
    gaps = []
    for pace in (10.0, 10.0, 1.0, 1.0, 0.01, 0.01, 0.01):
        gap = 0
        while True:
            now, gap = now + pace, gap + 1
            if agreement.due():
                break
        agreement.reached(alone, 0, 0)
        gaps.append(gap)
    assert gaps == [1, 1, 1, 5, 5, stoppable.AGREE_EVERY, stoppable.AGREE_EVERY]
