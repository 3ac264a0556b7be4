"""Stops, locks, pulses and events: what holds a study together while it runs and when it is asked to end."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_plan import PLAN

from svgan.errors import UserError
from svgan.io import storage
from svgan.termination import Terminated
from sweeps.storage import driver_lock, events, stop_request, study_files
from sweeps.storage.plan import Plan
from sweeps.storage.trial_outcome import how_it_ended
from sweeps.trial.watchdog import Watchdog, place


@pytest.fixture
def plan(tmp_path):
    return Plan.from_fields(PLAN | {"storage": str(tmp_path / "runs"), "folder": str(tmp_path / "runs" / "toy-1")})


@pytest.mark.parametrize(
    ("result", "error", "ending"),
    [
        ({"finished": True, "latent_fd": 1.0}, False, "finished"),
        ({"finished": True}, True, "halted"),
        ({"failed": "NonFiniteLoss"}, False, "failed"),
        ({"halted": True}, False, "halted"),
        ({"latent_fd": 1.0}, False, "pruned"),
        (None, False, "pruned"),
        (None, True, "halted"),
    ],
)
def test_a_trial_ended_as_its_last_result_says(result, error, ending):
    assert how_it_ended(result, error) == ending


def test_a_stop_is_seen_until_it_is_cleared(plan):
    watch = stop_request.StopWatch(plan)
    watch.every = 3600.0  # longer than this test takes on any machine
    assert not watch()
    stop_request.request(plan)
    assert not watch(), "looks again only after a while"
    watch.next = 0.0
    assert watch()
    stop_request.clear(plan)
    assert watch(), "a stop that was seen stays"
    assert not stop_request.StopWatch(plan)()


def test_a_stop_that_cannot_be_written_is_one_line(plan, tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="toy-1: the stop cannot be written"):
        stop_request.request(plan)


def test_a_living_study_has_one_driver(plan):
    code = (
        "import json, sys, time\nfrom sweeps.storage import driver_lock\nfrom sweeps.storage.plan import Plan\n"
        "with driver_lock.hold(Plan.from_json(json.loads(sys.argv[1]))):\n    print('held', flush=True)\n"
        "    time.sleep(3600)\n"
    )
    import json

    assert not driver_lock.is_held(plan)
    holder = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(plan.to_json())],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        assert driver_lock.is_held(plan)
        with (
            pytest.raises(UserError, match=f"process {holder.pid} on .* is running this study"),
            driver_lock.hold(plan),
        ):
            pass
    finally:
        holder.kill()
        holder.wait()
    assert not driver_lock.is_held(plan)
    with driver_lock.hold(plan):
        pass


def test_the_first_ctrl_c_asks_and_the_second_leaves(plan, capsys):
    before = signal.getsignal(signal.SIGINT)
    with stop_request.interruptible(plan):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop_request.requested(plan)
        assert "running trials keep their state first" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def search(plan, *steps):
    """What runs while a study's trials do: these steps, and then its end, for trials that have kept their state."""
    with stop_request.interruptible(plan):
        for step in steps:
            step()
        raise KeyboardInterrupt


def test_the_first_sigterm_asks_and_the_second_leaves(plan, capsys, monkeypatch):
    """`timeout` and `srun` send it twice at once; that counts as once."""
    before, clock, heard = signal.getsignal(signal.SIGTERM), SimpleNamespace(now=100.0), []
    monkeypatch.setattr(stop_request.time, "monotonic", lambda: clock.now)

    def terminate(after):
        clock.now += after
        signal.raise_signal(signal.SIGTERM)
        heard.append(stop_request.requested(plan))

    some = stop_request.NOTICE_SECONDS / 2
    with pytest.raises(Terminated):
        search(plan, partial(terminate, 0.0), partial(terminate, some), partial(terminate, 2 * some))
    assert heard == [True, True], "the third one raises"
    assert capsys.readouterr().err.count("keep their state first (SIGTERM again") == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("came", "raised"),
    [
        ([signal.SIGINT], KeyboardInterrupt),
        ([signal.SIGTERM], Terminated),
        ([signal.SIGTERM, signal.SIGINT], Terminated),
        ([signal.SIGINT, signal.SIGTERM], Terminated),
    ],
    ids=str,
)
def test_a_search_ends_as_its_signals_say(plan, came, raised):
    with pytest.raises(KeyboardInterrupt) as ended:
        search(plan, *(partial(signal.raise_signal, number) for number in came))
    assert type(ended.value) is raised


def test_a_process_that_makes_no_step_is_named_and_killed(tmp_path):
    told = tmp_path / "told"
    # By a clock that goes on with the steps, so that no machine is so slow that one takes too long.
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom types import SimpleNamespace\n"
        "from sweeps.trial import watchdog\n"
        "clock = SimpleNamespace(now=0.0)\nwatchdog.time = SimpleNamespace(monotonic=lambda: clock.now)\n"
        "def stuck_in_a_collective():\n    clock.now += 100.0\n    time.sleep(3600)\n"
        "with watchdog.Watchdog(1.0, 'rank 3', Path(sys.argv[1]).write_text) as pulse:\n"
        "    for _ in range(15):\n        time.sleep(0.1)\n        clock.now += 0.5\n        pulse.beat('step')\n"
        "    print('alive', flush=True)\n    stuck_in_a_collective()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(told)],
        capture_output=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == b"alive\n"
    assert told.read_text().startswith("rank 3 (process ")
    assert "stuck_in_a_collective" in told.read_text()


def test_a_pulse_that_is_over_kills_nobody():
    with Watchdog(3600.0, "rank 0", pytest.fail) as pulse:
        pass
    pulse.thread.join(600)
    assert not pulse.thread.is_alive()
    assert place(None) == "a place unknown"


@pytest.fixture(params=["disk", "s3"])
def stored(request, plan):
    """A plan whose storage is a folder, or a bucket of a real S3 server."""
    if request.param == "disk":
        return plan
    return plan.with_fields(storage=f"{request.getfixturevalue('s3')}/{os.urandom(4).hex()}")


def test_events_are_read_in_order_and_once(stored):
    for text in ("first\n  of two lines", "second"):
        events.tell(stored, 3, text)
        time.sleep(0.01)
    events.tell(stored, None, "third")
    found = events.read(stored)
    assert [(event.trial, event.text) for event in found.values()] == [
        (3, "first of two lines"),
        (3, "second"),
        (None, "third"),
    ]
    assert str(found[min(found)]).endswith("trial 3: first of two lines")
    assert events.read(stored, found) == {}
    events.tell(stored, 0, "fourth")
    assert [event.text for event in events.read(stored, found).values()] == ["fourth"]


def test_an_event_that_cannot_be_kept_stops_nobody(plan, tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    events.tell(plan, 0, "nobody hears this")


def test_a_shelf_keeps_files_and_folders(stored, tmp_path):
    where = study_files.place(stored, "box")
    assert storage.names(where) == []
    assert storage.read(f"{where}/a") is None
    storage.write(f"{where}/a", b"one")
    assert storage.read(f"{where}/a") == b"one"
    folder = Path(tmp_path, "some")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "b").write_bytes(b"two")
    storage.upload(folder, f"{where}/c")
    assert sorted(storage.names(where)) == ["a", "c"]
    storage.download(f"{where}/c", tmp_path / "back")
    assert (tmp_path / "back" / "deep" / "b").read_bytes() == b"two"
    storage.remove(where)
    assert storage.read(f"{where}/a") is None
    assert storage.read(f"{where}/c/deep/b") is None
    storage.remove(where)
    storage.download(where, tmp_path / "nothing")
    assert not list(Path(tmp_path).glob("nothing/**/*.*"))
