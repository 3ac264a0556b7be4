"""A cluster of several nodes: one is lost and another comes, and two studies share it."""

import re

import psutil
import pytest
from growing_cluster import QUOTA, WITHOUT_QUOTA, growing_cluster
from harness import EVERY, FLAGS, WORKER, Sweep, assert_as_if_nothing_had_happened, messages, named
from ray_cluster import WAITING, Cluster

from cluster import spot_notice
from sweeps.ray_runtime.resources import SLOT

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster():
    made = Cluster()
    yield made
    made.close()


def test_lost_nodes_are_waited_for_and_never_charged_to_the_trial(undisturbed, footage, tmp_path, cluster):
    """Three are lost before the first checkpoint, the last of them with no other there. Three failures of its own would
    end the trial."""
    nodes = []
    for count in (1, 2, 3):  # one after another (docs/traps.md)
        nodes.append(cluster.add(1))
        cluster.until_cpus(count)
    flags = ("--name", "hurt", *FLAGS, "--concurrency", "1")
    sweep = Sweep(tmp_path, footage[0], *flags, environment=cluster.environment, holds_at=EVERY - 5)
    sweep.until_held()
    relays = named(psutil.Process(cluster.head.process.pid).children(recursive=True), "ray::Relay")
    assert len(relays) == 1, "workers on another node reach the head's database through the relay"
    for times in (2, 3, None):
        (there,) = [node for node in nodes if node.runs(WORKER)]
        nodes.remove(there)
        there.lose()
        if times:
            sweep.until_told(f"workers started again ({times} times now)")
    sweep.until_told("waits for a node: 1 x 1 CPU asked, room for 0 of 1")
    sweep.release()
    cluster.add(1)
    sweep.end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    assert "goes on: there is room again" in messages(sweep.plan)


def test_a_drained_nodes_trial_keeps_its_state_and_goes_on_at_another(undisturbed, footage, tmp_path, cluster):
    """As a spot interruption does it (cluster/spot_notice.py)."""
    cluster.add(1)
    cluster.until_cpus(1)
    flags = ("--name", "hurt", *FLAGS, "--concurrency", "1")
    waits = tmp_path / "waits"
    asked = {"TOY_LEAVES_AT": str(2 * EVERY + 5), "TOY_MARK": str(waits)}
    sweep = Sweep(tmp_path, footage[0], *flags, environment=cluster.environment | asked)
    sweep.until(waits.exists)
    (node,) = spot_notice.nodes_here(cluster.told_address)
    cluster.add(1)
    cluster.until_cpus(2)
    assert spot_notice.drain(cluster.told_address, node, seconds=300)
    sweep.end()
    assert_as_if_nothing_had_happened(sweep.plan, undisturbed)
    at = re.search(r"its workers were told to leave; its state is kept at step (\d+)", messages(sweep.plan))
    assert f", from step {at[1]}" in messages(sweep.plan)


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
