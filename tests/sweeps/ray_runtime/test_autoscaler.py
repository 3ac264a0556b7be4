"""The autoscaler's report as Ray itself writes it, for both of its versions, in one line."""

import json
import time
from dataclasses import asdict

import pytest
from ray.autoscaler._private.autoscaler import AutoscalerSummary
from ray.autoscaler._private.commands import debug_status
from ray.autoscaler._private.load_metrics import LoadMetricsSummary
from ray.autoscaler._private.node_provider_availability_tracker import NodeProviderAvailabilityTracker
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.v2.schema import ClusterStatus, LaunchRequest, NodeInfo
from ray.autoscaler.v2.utils import ClusterStatusFormatter

from sweeps.ray_runtime import autoscaler

QUOTA = "You have requested more vCPU capacity than your current vCPU limit of 32 allows"


def of_version_1(*, failed=None, launching=None, setting_up=()):
    """What the report says after an attempt to launch each kind of node that failed."""
    tracker = NodeProviderAvailabilityTracker()
    for attempt, (kind, (category, why)) in enumerate((failed or {}).items()):
        tracker.update_node_availability(kind, int(time.time()) - 9 + attempt, NodeLaunchException(category, why, None))
    summary = AutoscalerSummary(
        active_nodes={"head": 1},
        idle_nodes=None,
        pending_nodes=[*setting_up],
        pending_launches=launching or {},
        failed_nodes=[],
        node_availability_summary=tracker.summary(),
        legacy=True,
    )
    load = LoadMetricsSummary(
        usage={}, resource_demand=[], pg_demand=[], request_demand=[], node_types=[], head_ip="127.0.0.1"
    )
    report = {"autoscaler_report": asdict(summary), "load_metrics_report": asdict(load), "time": 1.0}
    return debug_status(json.dumps(report).encode(), b"", verbose=True)


def of_version_2(*, failed=(), launching=(), setting_up=()):
    status = ClusterStatus(
        pending_launches=[LaunchRequest("1", kind, 1, "PENDING", 1) for kind in launching],
        failed_launches=[LaunchRequest("1", kind, 1, "FAILED", 1, details=why, failed_ts_s=2) for kind, why in failed],
        pending_nodes=[NodeInfo("m5.large", kind, host, "", "PENDING", details=how) for host, kind, how in setting_up],
    )
    return ClusterStatusFormatter.format(status, verbose=True)


@pytest.fixture(autouse=True)
def version_1(monkeypatch):
    from ray.autoscaler.v2 import utils

    monkeypatch.setattr(utils, "cached_is_autoscaler_v2", False)


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (of_version_1, ""),
        (of_version_2, ""),
        (lambda: "No cluster status. It may take a few seconds for the Ray internal services to start up.", ""),
        (lambda: "", ""),
    ],
)
def test_nothing_is_made_of_a_report_without_a_cause(report, line):
    assert autoscaler.describe(report()) == line


def test_a_quota_and_a_lack_of_capacity_are_said_with_the_clouds_own_words():
    status = of_version_1(
        failed={"gpu": ("VcpuLimitExceeded", QUOTA), "spot": ("UnfulfillableCapacity", "")},
        launching={"cpu": 2},
        setting_up=[("10.0.0.5", "cpu", "waiting-for-ssh")],
    )
    assert autoscaler.describe(status) == (
        f"spot: UnfulfillableCapacity; gpu: VcpuLimitExceeded ({QUOTA}); cpu, 2 launching; "
        "10.0.0.5: cpu, waiting-for-ssh"
    )


def test_version_2_says_the_same():
    why = f"launch failed with Failed to launch 1 nodes of type gpu with request id 0f3a: {QUOTA}"
    status = of_version_2(failed=[("gpu", why)], launching=["cpu"], setting_up=[("i-05f", "cpu", "installing ray")])
    assert autoscaler.describe(status) == (f"gpu: LaunchFailed ({QUOTA}); cpu, 1 launching; i-05f: cpu, installing ray")
