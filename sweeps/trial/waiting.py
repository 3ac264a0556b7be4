"""What a trial waits for while the cluster has no place for its workers, and who is told how often."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from svgan.io import storage
from sweeps.ray_runtime import autoscaler, internals
from sweeps.storage import life, stop_request
from sweeps.storage.plan import Plan

if TYPE_CHECKING:
    from sweeps.ray_runtime.resources import Resources

ROOM_SECONDS = 5.0  # between two looks whether a node has joined; a cloud starts one in minutes
# Between two lines with a known cause: at first two starts that found no place, at last a quarter of a day.
NOTICE_SECONDS, LONGEST_NOTICE_SECONDS = 120.0, 21600.0
CHANGING = re.compile(r"\S*\d\S*")  # numbers, addresses and ids, which differ from attempt to attempt


class WaitingNotice:
    """Says why a trial waits: a new cause at once, a known one again after pauses that double.

    A wait for a GPU may last days, in which a start is tried every minute.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.say, self.clock = say, clock
        self.reset()

    def reset(self) -> None:
        """Called when the trial has started: its next wait is a new one."""
        self.known, self.pause, self.next = set[str](), NOTICE_SECONDS, -math.inf
        self.began: float | None = None

    def waits(self, cause: str) -> None:
        """Called at each attempt that found no place."""
        now, kind = self.clock(), CHANGING.sub("", cause)
        self.began = now if self.began is None else self.began
        if kind in self.known and now < self.next:
            return
        self.pause = min(2 * self.pause, LONGEST_NOTICE_SECONDS) if self.known else NOTICE_SECONDS
        self.known.add(kind)
        self.next = now + self.pause
        minutes = int((now - self.began) / 60)
        since = f", for {minutes} min now" if minutes else ""
        self.say(f"waits for a node{since}: {cause}; it goes on when there is room")


def wait(plan: Plan, number: int, notice: WaitingNotice, cause: str) -> None:
    """Say that the trial waits, and leave a sign of it, so that the driver does not take it for a hang."""
    with contextlib.suppress(*storage.ERRORS):
        life.leave(plan, number, life.Sign("controller", 0, f"waits for a node: {cause}", waits=True))
    notice.waits(cause)


def wait_for_room(plan: Plan, number: int, notice: WaitingNotice, every: float = ROOM_SECONDS) -> None:
    """Wait while the cluster, with what its autoscaler can add, is too small for one trial, because a node was lost."""
    from sweeps.ray_runtime.resources import cluster

    waited = False
    while not stop_request.requested(plan):
        there = cluster()
        if not (short := shortage(plan, there)):
            if waited:
                notice.say("goes on: there is room again")
                notice.reset()
            return
        waited = True
        wait(plan, number, notice, f"{short} ({there.growth})" if there.growth and not there.coming else short)
        time.sleep(every)


def shortage(plan: Plan, there: Resources, *, now: bool = False) -> str:
    """The resources that one trial lacks; '' if none. now: leave out what an autoscaler could add."""
    fits = there.workers(plan.compute.cpus_per_worker, plan.compute.gpus_per_worker, now=now)
    gpus = f" and {plan.compute.gpus_per_worker:g} GPU" if plan.compute.gpus_per_worker else ""
    asked = f"{plan.compute.workers} x {plan.compute.cpus_per_worker:g} CPU{gpus}"
    return "" if fits >= plan.compute.workers else f"{asked} asked, room for {fits} of {plan.compute.workers}"


def why_no_place(plan: Plan) -> str:
    """Why a start that waited for its workers' place found none."""
    from sweeps.ray_runtime.resources import cluster

    return cause_of_waiting(shortage(plan, cluster(), now=True), internals.autoscaler_status())


def cause_of_waiting(short: str, status: str) -> str:
    """The nodes' and the autoscaler's part of a wait in one line.

    short: what the nodes that are there lack, '' if other work uses their places. status: `ray status --verbose`.
    """
    if reported := autoscaler.describe(status):
        return f"{short or 'others use every place'}; the autoscaler reports {reported}"
    if not short:
        return "others use every place"
    if not autoscaler.is_report(status):
        return f"{short}; the autoscaler's report cannot be had: see `ray status` on the head"
    return f"{short}; the autoscaler reports neither a start nor a failure, so its limit of nodes may be reached"
