"""Signs of life: left and read back, on a disk and in a bucket; who moves, and who is told that bytes do."""

import os
import threading
import time

import pytest
from made_plan import PLAN

from svgan.io import storage, transfers
from sweeps.storage import life
from sweeps.storage.life import Sign
from sweeps.storage.plan import Plan
from sweeps.trial.life_thread import LifeThread
from sweeps.trial.trainer import storage_arguments
from sweeps.trial.watchdog import Watchdog


@pytest.fixture(params=["disk", "s3"])
def plan(request, tmp_path):
    """A plan whose storage is a folder, or a bucket of a real S3 server."""
    place = str(tmp_path) if request.param == "disk" else f"{request.getfixturevalue('s3')}/{os.urandom(4).hex()}"
    return Plan.from_fields(PLAN | {"storage": place, "patience": 0.01})


def test_a_sign_is_read_as_it_was_left_until_it_is_forgotten(plan):
    assert life.read(plan, 3) is None
    for sign in (Sign("a", 1, "step", 120, 1700), Sign("a", 2, "generated clips", 12, 64)):
        life.leave(plan, 3, sign)
        assert life.read(plan, 3) == sign
    life.leave(plan, None, Sign("b", 1, "waits for a node", waits=True))
    assert life.read(plan, None).waits
    life.forget(plan, 3)
    assert life.read(plan, 3) is None
    life.clear(plan)
    assert life.read(plan, None) is None


def test_signs_are_shown_as_what_is_done():
    assert str(Sign("a", 1, "step", 120, 1700)) == "step 120 of 1700"
    assert str(Sign("a", 1, "uploading state", 12_400_000)) == "uploading state: 12 MB"
    assert str(Sign("a", 1, "opening the log")) == "opening the log"
    assert Sign("a", 1, "generated clips", 12, 64).share == "12/64"


def test_they_come_a_tenth_of_the_patience_apart_and_never_seldom():
    assert life.interval(Plan.from_fields(PLAN | {"patience": 0.15})) == pytest.approx(0.9)
    assert life.interval(Plan.from_fields(PLAN | {"patience": 600.0})) == life.SIGN_SECONDS


def until(what):
    deadline = time.monotonic() + 300
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_rank_zero_leaves_signs_and_the_others_live_by_them(plan):
    """Rank 1 waits in a collective while rank 0 scores."""
    with Watchdog(3600, "rank 0", pytest.fail) as first, LifeThread(plan, 3, 0, first):
        until(lambda: life.read(plan, 3) is not None)
        with Watchdog(3600, "rank 1", pytest.fail) as second, LifeThread(plan, 3, 1, second) as reader:
            until(lambda: reader.known is not None)
            stood_still = second.last
            first.beat("generated clips", 2, 64)
            until(lambda: second.last > stood_still)
            assert second.sign.what == "starting", "what rank 0 does is not rank 1's"
    assert life.read(plan, 3).what == "generated clips"


def test_bytes_are_told_as_they_move(plan, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "state").write_bytes(bytes(3_000_000))
    told = []
    with transfers.heard_by(lambda what, count: told.append((what, count))):
        storage.upload(tmp_path / "out", f"{plan.output.storage}/kept")
        assert told[-1] == ("uploading kept", 3_000_000)
        storage.download(f"{plan.output.storage}/kept", tmp_path / "back")
        assert told[-1] == ("downloading kept", 3_000_000)
    assert (tmp_path / "back" / "state").stat().st_size == 3_000_000
    storage.upload(tmp_path / "out", f"{plan.output.storage}/kept")
    assert told[-1] == ("downloading kept", 3_000_000), "nobody listens any more"


def test_a_checkpoint_on_its_way_through_ray_moves(s3, tmp_path):
    """As Ray Train copies it, from another thread, and Ray pickles the file system on its way to the worker."""
    import pyarrow.fs
    from ray import cloudpickle

    place = storage_arguments(f"{s3}/{os.urandom(4).hex()}")
    files, path = cloudpickle.loads(cloudpickle.dumps(place["storage_filesystem"])), place["storage_path"]
    (tmp_path / "state").write_bytes(bytes(3_000_000))
    told = []
    with transfers.heard_by(lambda what, count: told.append((what, count))):
        copy = threading.Thread(
            target=pyarrow.fs.copy_files,
            args=(str(tmp_path), path),
            kwargs={"destination_filesystem": files, "use_threads": False},
        )
        copy.start()
        copy.join()
        assert told[-1] == ("uploading state", 3_000_000)
        assert len(told) > 3, "in pieces"
        (tmp_path / "back").mkdir()
        pyarrow.fs.copy_files(path, str(tmp_path / "back"), source_filesystem=files, use_threads=False)
        assert told[-1] == ("downloading state", 3_000_000)
    assert (tmp_path / "back" / "state").read_bytes() == bytes(3_000_000)
