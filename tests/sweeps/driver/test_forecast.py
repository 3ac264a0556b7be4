"""The estimate against what it estimates: halving as it is, a trial's own figures, iterations as they run."""

import dataclasses
import itertools
import shutil
import time

import pytest
from made_plan import PLAN

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.training import recipes
from svgan.training.data import Material
from sweeps.driver import forecast
from sweeps.driver.forecast import Pace
from sweeps.driver.step_timing import lengths
from sweeps.storage.plan import Plan


def plan(**change):
    return Plan.from_fields(PLAN | {"steps": 400, "rungs": (100, 200), "reduction": 3, "trials": 12} | change)


def test_a_third_goes_on_at_each_rung():
    """Three trials, two of them controls: the third goes on if it is the best. Many: a third, then a ninth."""
    share, chance = forecast.halved(plan(trials=3), draws=3000)
    assert chance == pytest.approx(1 / 3, abs=0.04)
    assert share == pytest.approx(0.25 + 0.75 / 3, abs=0.03)
    share, chance = forecast.halved(plan(trials=10_000))
    assert chance == pytest.approx(1 / 9, abs=0.04)
    assert share == pytest.approx(0.25 + 0.25 / 3 + 0.5 / 9, abs=0.03)


def test_a_study_without_free_trials_or_rungs_runs_whole():
    assert forecast.forecast(plan(trials=2), Pace(1, 0, 0, "")).finishers == 2
    whole = forecast.forecast(plan(rungs=(), concurrency=1), Pace(1, 10, 5, ""))
    assert whole.finishers == 12
    assert whole.trial_hours == pytest.approx(12 * 415 / 3600)
    assert whole.seconds == pytest.approx(12 * 415 + forecast.STUDY_START + forecast.STUDY_END)


def test_places_are_filled_as_they_come_free():
    three = forecast.forecast(plan(trials=3, controls=2, rungs=(), concurrency=2), Pace(1, 0, 0, ""))
    assert three.seconds == pytest.approx(800 + forecast.STUDY_START + forecast.STUDY_END)


def test_the_line_says_what_it_rests_on():
    line = forecast.describe(plan(), Pace(0.1, 20, 8, "as 3 earlier trials took"))
    assert line.startswith("time: about ")
    assert line.endswith("0.1 s a step and 20 s of FVD, as 3 earlier trials took")
    assert "core-hours" in line
    assert "GPU-hours" in forecast.describe(plan(gpus_per_worker=1), Pace(0.1, 20, 8, ""))
    assert "not known" in forecast.describe(plan(), None)


def test_equal_seconds_are_as_many_steps_as_take_them(footage):
    """On the random domain an iteration of critics on frames takes longer than one of critics on codes."""
    small = {"memory": 6, "components": 6, "mapping_samples": 500, "critic_size": 8, "window": 4}
    runs = [recipes.make("mocogan-hd", **small), recipes.make("tiny", batch=8, steps=3)]
    timed = plan(trials=2, controls=2, seconds=5.0, domain=footage[0], latents=footage[1])
    frames, codes = lengths(timed, runs)
    assert codes > 2 * frames > 2
    lasts = forecast.forecast(timed, Pace(99, 10, 5, ""))
    assert lasts.trial_hours == pytest.approx(2 * 20 / 3600)
    assert "with 5 s of training and 10 s of FVD" in forecast.describe(timed, Pace(99, 10, 5, ""))


def test_the_final_judgement_takes_its_time():
    """20 s for short and long on 2 clips are 5 s a clip; three models and the champion, 3 seeds of 100 clips."""
    paced = Pace(0.1, 20, 8, "")
    judged = plan(promotion_clips=100, promotion_seeds=3)
    assert forecast.final(judged, paced) == 4 * 3 * 100 * 5
    assert forecast.forecast(judged, paced).seconds == forecast.forecast(plan(), paced).seconds + 6000
    assert ", 1.7 h of it for the final judgement" in forecast.describe(judged, paced)
    assert "final judgement" not in forecast.describe(plan(), paced)


@pytest.mark.parametrize(("seconds", "words"), [(40, "40 s"), (540, "9 min"), (12600, "3.5 h"), (2 * 86400, "2 days")])
def test_durations_are_for_people(seconds, words):
    assert forecast.duration(seconds) == words


def clock_of_laps(seconds):
    """A clock on which every iteration takes as long: it is read before and after each."""
    return (seconds * reading for reading in itertools.count()).__next__


def test_iterations_are_timed_and_a_slow_batch_in_part(footage):
    from svgan.training import recipes

    material, asked = Material.open(*footage), plan(clips=0)

    def timed(clock=time.perf_counter, **change):
        return forecast.timed(asked, recipes.make("tiny", **{"batch": 8} | change), material, "cpu", 1.0, clock)

    here = timed()
    assert here.step > 0
    assert here.source.endswith("iterations timed here")
    assert timed(lr=1e30).step > 0, "a diverging iteration takes its time too"
    quick = timed(clock_of_laps(0.01))
    assert (quick.step, quick.source) == (pytest.approx(0.01), "from 4 iterations timed here")
    # An eighth of the batch shows that a third of the budget is too short for the whole one.
    slow = timed(clock_of_laps(0.1))
    assert (slow.step, slow.source) == (pytest.approx(0.8), "from 4 iterations timed here")
    hurried = timed(clock_of_laps(2.0), batch=64)
    assert (hurried.step, hurried.source) == (pytest.approx(16), "from 1 iterations timed here")


def test_scoring_is_timed_here_and_follows_the_number_of_clips(random_domain):

    domain = Domain.load(random_domain)
    few, many = (forecast.timed_scoring(plan(clips=clips, precision="float32"), domain, "cpu") for clips in (2, 64))
    assert 0 < few < many


def test_earlier_trials_of_the_same_kind_are_asked_first(database, tmp_path):
    from svgan.training import recipes
    from sweeps.storage.tag_names import TRIAL
    from sweeps.tracking.client import Tracking
    from sweeps.tracking.trial_log import TrialLog

    shutil.copy(database, tmp_path / "mlflow.db")
    asked = plan(
        name="earlier",
        clips=64,
        tracking=f"sqlite:///{tmp_path}/mlflow.db",
        digests=(("protocol.long", "abc"),),
    )
    tracking = Tracking(asked)
    run = recipes.make("tiny", steps=400)
    for number, (speed, device) in enumerate([(10, "cpu A"), (5, "cpu A"), (20, "cpu A"), (1, "cpu B")]):
        log = TrialLog(asked, number)
        log.open(run.to_json(), 1, device)
        log.metrics(400, {"iterations_per_second": speed, "seconds_scoring": 30.0 + number})
    found = forecast.earlier(tracking, run, "cpu A")
    assert len(found) == 3
    known = forecast.learned(found, asked)
    assert known.step == pytest.approx(0.1)
    assert known.scoring == 31
    assert known.source == "as 3 earlier trials took"
    assert len(forecast.earlier(tracking, run, "cpu %")) == 4
    assert not forecast.earlier(tracking, dataclasses.replace(run, width=8), "cpu A")
    for one in found:  # of two seeds, whose steps went at 4 a second, together at 2
        log = TrialLog(asked, int(one.data.tags[TRIAL]))
        tracking.client.log_param(one.info.run_id, "seeds", 2)
        log.metrics(401, {"iterations_per_second": 2.0})
        tracking.client.set_tag(one.info.run_id, forecast.OUTCOME, "finished")
        half_closed = forecast.learned(forecast.earlier(tracking, run, "cpu A"), asked)
        assert half_closed.step == pytest.approx(1 / 4, abs=0.25), "a driver died before it set the run's end"
        end = one.info.start_time + 1000 * (400 // 2 + 32 + 7)
        tracking.client.set_terminated(one.info.run_id, "FINISHED", end_time=end)
    pair = forecast.learned(forecast.earlier(tracking, run, "cpu A"), asked)
    assert pair.step == pytest.approx(1 / 4)
    assert pair.around == pytest.approx(7, abs=1.1), "trials scored for 30, 31 and 32 s"
    other = forecast.learned(found, asked.with_fields(digests=(("protocol.long", "def"),)))
    assert other.scoring is None, "scored by another protocol"
    assert forecast.describe(asked, other).endswith("FVD, whose time is not known, as 3 earlier trials took")


def test_patience_shorter_than_a_step_is_refused():
    """The plan has two clips, scored by two protocols, two at a time."""
    forecast.check_patience(plan(), None)
    forecast.check_patience(plan(), Pace(400, 800, 8, "as 3 earlier trials took"))
    slow = r"^--patience 15: a step takes about 10 min \(as 3 earlier trials took\), .* give at least 20$"
    with pytest.raises(UserError, match=slow):
        forecast.check_patience(plan(), Pace(600, 800, 8, "as 3 earlier trials took"))
    with pytest.raises(UserError, match=r"^--patience 15: FVD of 2 clips takes about 17 min .* give at least 34$"):
        forecast.check_patience(plan(), Pace(400, 2000, 8, "as 3 earlier trials took"))
    forecast.check_patience(plan(clips=0), Pace(400, 2000, 8, "as 3 earlier trials took"))
