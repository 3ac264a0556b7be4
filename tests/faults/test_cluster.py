"""A cluster of several nodes: one is lost and another comes, and two studies share it."""

import psutil
import pytest
from growing_cluster import QUOTA, WITHOUT_QUOTA, growing_cluster
from harness import EVERY, FLAGS, Sweep, assert_as_if_nothing_had_happened, messages, named
from ray_cluster import WAITING, Cluster

from sweeps.ray_runtime.resources import SLOT

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster():
    made = Cluster()
    yield made
    made.close()


def test_a_lost_node_is_waited_for_and_the_trial_goes_on_where_another_joins(undisturbed, footage, tmp_path, cluster):
    first = cluster.add(1)
    cluster.until_cpus(1)
    flags = ("--name", "hurt", *FLAGS, "--concurrency", "1")
    sweep = Sweep(tmp_path, footage[0], *flags, environment=cluster.environment, holds_at=2 * EVERY + 5)
    sweep.until_reports(2)
    sweep.until_held()
    relays = named(psutil.Process(cluster.head.process.pid).children(recursive=True), "ray::Relay")
    assert len(relays) == 1, "workers on another node reach the head's database through the relay"
    first.lose()
    sweep.release()
    sweep.until_told("waits for a node: 1 x 1 CPU asked, room for 0 of 1")
    cluster.add(1)
    sweep.end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    assert "goes on: there is room again" in messages(sweep.plan)


def test_two_studies_on_one_cluster_and_one_mlflow_are_both_right(undisturbed, footage, tmp_path, cluster):
    cluster.add(2)
    cluster.until_cpus(2)
    tracking = ("--tracking", f"sqlite:///{tmp_path}/both.db", "--concurrency", "2")
    both = [
        Sweep(tmp_path, footage[0], "--name", name, *FLAGS, *tracking, environment=cluster.environment)
        for name in ("one", "two")
    ]
    for sweep in both:
        sweep.end()
    for sweep in both:
        assert_as_if_nothing_had_happened(sweep.plan, undisturbed)


def test_a_node_that_never_comes_is_waited_for_with_the_clouds_reason(footage, tmp_path):
    """Ray's own autoscaler asks for nodes in an account without a quota. Each start is given up after 5 s."""
    with growing_cluster(tmp_path, WITHOUT_QUOTA, {SLOT: 1}, **{WAITING: "5"}) as environment:
        flags = ("--name", "never", *FLAGS, "--concurrency", "1", "--gpus-per-worker", "0")
        sweep = Sweep(tmp_path, footage[0], *flags, environment=environment)
        sweep.until_told(f"the autoscaler reports cpu: VcpuLimitExceeded ({QUOTA})", timeout=300)
        sweep.interrupt()
        sweep.end(code=130)
    assert "waits for a node: 1 x 1 CPU asked, room for 0 of 1; the autoscaler reports " in messages(sweep.plan)
    assert "once more" not in messages(sweep.plan)
