"""Who is charged for what: the rule as a table, and a day of a trial on nodes that are lost every six hours."""

import itertools
import random
from collections.abc import Callable, Iterator

import pytest

from sweeps.trial.checkpoint_timer import LOOP_SHARE, CheckpointTimer, interval
from sweeps.trial.retries import Cause, Charges, charge


@pytest.mark.parametrize(
    ("ends", "again"),
    [
        ("own", "yes"),
        ("own own", "yes yes"),
        ("own own own", "yes yes no"),
        ("own own +own own own", "yes yes yes yes no"),
        ("start", "yes"),
        ("start start", "yes no"),
        ("own start own start", "yes yes yes no"),
        ("node node node node node node", "yes yes yes yes yes yes"),
        ("own own node node own", "yes yes yes yes no"),
        ("own own +node own own own", "yes yes yes yes yes no"),
        ("own own notice notice", "yes yes yes yes"),
        ("start room room room start", "yes yes yes yes no"),
    ],
)
def test_only_failures_of_its_own_without_a_checkpoint_between_them_end_a_trial(ends, again):
    """+: a checkpoint was kept since the end before."""
    charges, told = Charges(), []
    for end in ends.split():
        charges, goes_on = charge(charges, end.removeprefix("+"), progress=end.startswith("+"))
        told.append("yes" if goes_on else "no")
    assert " ".join(told) == again


TICK, HOUR = 60.0, 3600.0
DAY, MEAN = 24 * HOUR, 6 * HOUR  # of a trial's work; between two losses of its node
REPORTS = 8
TRIALS = 100


def charged_as(cause: Cause) -> Callable[[bool], bool]:
    """The rule for a trial that nothing but losses of its node happens to."""
    charges = Charges()

    def lost(progress: bool) -> bool:
        nonlocal charges
        charges, again = charge(charges, cause, progress)
        return again

    return lost


def a_day(gaps: Iterator[float], minutes: float, lost: Callable[[bool], bool]) -> tuple[bool, float]:
    """Whether a trial ends its day of work on nodes that are lost after these seconds each; the seconds of work that it
    did twice."""
    now, done, kept, again = 0.0, 0.0, 0.0, 0.0
    timer = CheckpointTimer(minutes, lambda: now)
    while True:
        at, progress = now + next(gaps), False
        timer.restart()
        while now < at:
            now, done = now + TICK, done + TICK
            if done >= DAY:
                return True, again
            if done % (DAY / REPORTS) == 0 or timer.due():
                kept, progress = done, True
                timer.restart()
        again, done = again + done - kept, kept
        if not lost(progress):
            return False, again


def days(minutes: float, cause: Cause) -> list[tuple[bool, float]]:
    made = []
    for seed in range(TRIALS):
        chance = random.Random(seed)
        gaps = (chance.expovariate(1 / MEAN) for _ in itertools.count())
        made.append(a_day(gaps, minutes, charged_as(cause)))
    return made


def test_a_trial_of_a_day_survives_a_loss_every_six_hours_and_repeats_under_three_percent():
    before, now = days(0, "own"), days(10, "node")
    survived = sum(ended for ended, _ in before)
    assert 0.5 * TRIALS < survived < 0.7 * TRIALS, "where losses are charged, and reports alone keep the state"
    assert sum(again for ended, again in before if ended) > 0.2 * survived * DAY
    assert all(ended for ended, _ in now)
    assert sum(again for _, again in now) < 0.03 * TRIALS * DAY


def test_checkpoints_take_two_percent_of_the_loop_at_most_however_large_the_model():
    for held in (0.1, 3.0, 60.0, 600.0):
        assert held / (held + interval(10, held)) <= LOOP_SHARE * (1 + 1e-9)
    assert interval(10, 3.0) == 600


def test_a_checkpoint_is_due_by_the_clock_unless_a_report_kept_the_state_or_one_is_being_uploaded(tmp_path):
    now = 0.0
    timer = CheckpointTimer(10, lambda: now)
    assert not timer.due()
    now = 599.0
    assert not timer.due()
    now = 600.0
    assert timer.due()
    timer.restart()
    assert not timer.due()
    timer.kept(20.0, tmp_path)
    now += 979.0
    assert not timer.due()
    now += 2.0
    assert not timer.due(), "the one before is still on its way"
    tmp_path.rmdir()
    assert timer.due()
    never = CheckpointTimer(0, lambda: now)
    assert not never.due()
    now += 1e9
    assert not never.due()
