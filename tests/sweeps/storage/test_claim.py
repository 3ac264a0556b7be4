"""A claim: one holder at a time, on any storage, judged by no clock but the observer's own."""

import threading
import uuid

import pytest

from svgan.io import storage
from sweeps.storage import claim as claims
from sweeps.storage.claim import BEATS, EXPIRES, Claim


@pytest.fixture(autouse=True)
def no_beats_but_the_tests_own(monkeypatch):
    monkeypatch.setattr(claims, "BEATS", 3600.0)


@pytest.fixture(params=["disk", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def where(request, tmp_path):
    places = {"disk": lambda: str(tmp_path), "memory": lambda: "memory://", "s3": lambda: request.getfixturevalue("s3")}
    return f"{places[request.param]()}/{uuid.uuid4().hex}"


class Clock:
    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


def die(claim):
    """The end of the claim's process: nothing beats any more, nothing is given back."""
    claim.over.set()


def test_a_claim_has_one_holder_until_it_is_released(where):
    first, second = Claim(where), Claim(where)
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()
    assert not first.take()
    second.release()
    assert not any(name.isdigit() for name in storage.names(where))  # some servers keep the folder itself


def test_of_many_at_once_one_takes_it(where):
    claims, start, taken = [Claim(where) for _ in range(8)], threading.Barrier(8), []

    def take(claim):
        start.wait()
        if claim.take():
            taken.append(claim)

    threads = [threading.Thread(target=take, args=(claim,)) for claim in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    for claim in taken:
        claim.release()
    assert Claim(where).take()


def test_the_claim_of_a_dead_process_is_taken_over_once(where):
    clocks = Clock(100.0), Clock(90_000.0)  # of two machines, never compared
    holder, watchers = Claim(where), [Claim(where, clock) for clock in clocks]
    assert holder.take()
    die(holder)
    assert [watcher.take() for watcher in watchers] == [False, False]
    for clock in clocks:
        clock.now += EXPIRES - 1
    assert [watcher.take() for watcher in watchers] == [False, False]
    for clock in clocks:
        clock.now += 1
    assert [watcher.take() for watcher in watchers] == [True, False]
    watchers[0].release()


def test_a_holder_that_beats_keeps_it_however_long_it_takes(where):
    clock = Clock()
    holder, watcher = Claim(where), Claim(where, clock)
    assert holder.take()
    for _ in range(20):
        assert not watcher.take()
        clock.now += EXPIRES - 1
        holder.beat()
    assert holder.held
    holder.release()


def test_a_holder_that_stood_still_stops_before_it_is_found_dead(where):
    clock, later = Clock(), Clock()
    holder, watcher = Claim(where, clock), Claim(where, later)
    assert holder.take()
    assert not watcher.take()
    clock.now = later.now = EXPIRES - 1
    assert not holder.held, "it may not go on, though nobody has taken its claim yet"
    later.now = EXPIRES
    assert watcher.take()
    holder.beat()
    assert not holder.held
    assert watcher.held
    watcher.beat()
    assert watcher.held
    watcher.release()


def test_who_finds_it_dead_too_late_does_not_take_it_from_the_next_holder(where, monkeypatch):
    """Between the look and the creation, another has taken the claim over, released it, and a third has taken it."""
    clocks = [Clock(), Clock()]
    dead, second, slow, third = Claim(where), Claim(where, clocks[0]), Claim(where, clocks[1]), Claim(where)
    assert dead.take()
    die(dead)
    assert not second.take()
    assert not slow.take()
    clocks[0].now = clocks[1].now = EXPIRES

    create = storage.create

    def late(uri, content):
        monkeypatch.setattr(storage, "create", create)
        assert second.take()
        second.release()
        assert third.take()
        return create(uri, content)

    monkeypatch.setattr(storage, "create", late)
    assert not slow.take()
    third.beat()
    assert third.held
    third.release()


def test_who_waits_gets_it_when_it_is_released(where):
    holder, waiter = Claim(where), Claim(where)
    assert holder.take()
    thread = threading.Thread(target=waiter.wait)
    thread.start()
    holder.release()
    thread.join(60)
    assert waiter.held
    waiter.release()


def test_a_beat_takes_a_small_part_of_the_time_to_expiry():
    assert EXPIRES >= 4 * BEATS
