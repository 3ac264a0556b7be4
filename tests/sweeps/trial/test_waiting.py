"""Who is told what while a trial waits for a place."""

import pytest
from made_plan import PLAN

from sweeps.ray_runtime.resources import CLUSTER, HEAD, Resources
from sweeps.storage.plan import Plan
from sweeps.trial.waiting import WaitingNotice, cause_of_waiting, shortage

CAPACITY = "the autoscaler reports gpu: InsufficientInstanceCapacity"


def report(pending: str, failures: str) -> str:
    """`ray status` in short; test_autoscaler.py reads whole ones of Ray's own."""
    return f"Active:\n 1 head\nPending:\n {pending}\nRecent failures:\n {failures}\n\nResources\n"


@pytest.fixture
def waiting():
    """A notice, what it said with the minute, and its clock, which a start that finds no place moves by a minute."""
    said, now = [], [0.0]
    notice = WaitingNotice(lambda text: said.append((int(now[0] // 60), text)), clock=lambda: now[0])

    def starts(count: int, cause: str = CAPACITY) -> None:
        for _ in range(count):
            notice.waits(cause)
            now[0] += 60

    return notice, said, starts


def test_a_day_without_a_node_is_said_a_dozen_times_with_its_cause(waiting):
    _, said, starts = waiting
    starts(24 * 60)
    assert [minute for minute, _ in said] == [0, 2, 6, 14, 30, 62, 126, 254, 510, 870, 1230]
    assert said[0][1] == f"waits for a node: {CAPACITY}; it goes on when there is room"
    assert said[3][1].startswith("waits for a node, for 14 min now: ")


def test_a_new_cause_is_said_at_once_and_one_that_comes_and_goes_is_not(waiting):
    _, said, starts = waiting
    starts(20)
    before = len(said)
    starts(1, "the autoscaler reports gpu: VcpuLimitExceeded")
    assert said[before:][0][1].startswith("waits for a node, for 20 min now: the autoscaler reports gpu: VcpuLimit")
    starts(1)
    starts(1, "the autoscaler reports gpu: VcpuLimitExceeded")
    starts(1)
    assert len(said) == before + 1


def test_numbers_and_addresses_make_no_new_cause(waiting):
    _, said, starts = waiting
    for host in range(3):
        starts(1, f"10.0.0.{host}: gpu, setting-up (request i-0{host}f)")
    assert [minute for minute, _ in said] == [0, 2]


def test_the_next_wait_of_a_trial_that_had_started_is_a_new_one(waiting):
    notice, said, starts = waiting
    starts(60)
    before = len(said)
    notice.reset()
    starts(1)
    assert said[before:] == [(60, f"waits for a node: {CAPACITY}; it goes on when there is room")]


def test_what_lacks_is_told_from_what_others_use():
    plan = Plan.from_fields(PLAN | {"gpus_per_worker": 1})
    there = Resources(CLUSTER, ({"CPU": 0, HEAD: 1},), ({"CPU": 4, "GPU": 1},))
    assert shortage(plan, there) == ""
    lacks = shortage(plan, there, now=True)
    refused = report("(no pending nodes)", "gpu: VcpuLimitExceeded (latest_attempt: 10:00:00)")
    assert cause_of_waiting(lacks, refused) == (
        "1 x 1 CPU and 1 GPU asked, room for 0 of 1; the autoscaler reports gpu: VcpuLimitExceeded"
    )
    still = report("(no pending nodes)", "(no failures)")
    assert "neither a start nor a failure, so its limit of nodes may be reached" in cause_of_waiting(lacks, still)
    assert cause_of_waiting("", still) == cause_of_waiting("", "") == "others use every place"
    starts = report("cpu, 1 launching", "(no failures)")
    assert cause_of_waiting("", starts) == "others use every place; the autoscaler reports cpu, 1 launching"


def test_a_report_that_cannot_be_had_is_no_report_of_nothing():
    for none in ("", "No cluster status. It may take a few seconds for the Ray internal services to start up."):
        assert cause_of_waiting("1 x 1 CPU asked, room for 0 of 1", none) == (
            "1 x 1 CPU asked, room for 0 of 1; the autoscaler's report cannot be had: see `ray status` on the head"
        )
