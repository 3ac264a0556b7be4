"""A lock that names its holder: one process has it, its end frees it, and looking at it disturbs nobody."""

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest
from filelock import Timeout, lock_descriptor

from svgan.io import process_lock


def hold_until_killed(path: Path, held) -> None:
    with process_lock.hold(path, "first"):
        held.set()
        signal.pause()


def test_one_process_holds_it_and_its_death_frees_it(tmp_path):
    path, context = tmp_path / "deep" / "lock", multiprocessing.get_context("spawn")
    assert not process_lock.is_held(path)
    held = context.Event()
    holder = context.Process(target=hold_until_killed, args=(path, held))
    holder.start()
    assert held.wait(60)
    assert process_lock.is_held(path)
    with pytest.raises(Timeout), process_lock.hold(path, "second"):
        pass
    assert path.read_text() == "first", "who did not get it leaves the holder's name"
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert not process_lock.is_held(path)
    with process_lock.hold(path, "2"):
        assert path.read_text() == "2"


def test_neither_a_thread_nor_a_forked_child_shares_it(tmp_path):
    path, seen = tmp_path / "lock", []
    with process_lock.hold(path, "one"):
        look = threading.Thread(target=lambda: seen.append(process_lock.is_held(path)))
        look.start()
        look.join()
        child = os.fork()
        if not child:
            os._exit(0 if process_lock.is_held(path) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert process_lock.is_held(path), "the child's end frees nothing"
    assert seen == [True]


def test_a_child_that_outlives_its_parent_does_not_keep_it(tmp_path):
    """A driver forks, is killed, and is started again while its children end."""
    path = tmp_path / "lock"
    reads, writes = os.pipe()
    parent = os.fork()
    if not parent:
        with process_lock.hold(path, "parent"):
            child = os.fork()
            if not child:
                signal.pause()
            os.write(writes, str(child).encode())
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    child = int(os.read(reads, 20))
    try:
        assert not process_lock.is_held(path)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_look_at_the_lock_is_not_taken_for_a_holder(tmp_path):
    """A driver may start in the instant in which `python -m sweeps status` looks."""
    path = tmp_path / "lock"
    look = os.open(path, os.O_RDWR | os.O_CREAT)
    assert lock_descriptor(look, blocking=False)
    threading.Timer(0.02, os.close, [look]).start()
    with process_lock.hold(path, "driver"):
        assert path.read_text() == "driver"


def test_who_may_only_read_the_file_sees_its_holder(tmp_path, monkeypatch):
    path, open_file = tmp_path / "lock", os.open

    def open_read_only(name, flags, *rest):
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return open_file(name, flags, *rest)

    with process_lock.hold(path, "driver"):
        monkeypatch.setattr(os, "open", open_read_only)
        assert process_lock.is_held(path)
        monkeypatch.undo()
    monkeypatch.setattr(os, "open", open_read_only)
    assert not process_lock.is_held(path)
