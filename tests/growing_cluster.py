"""A head whose autoscaler is Ray's own; the nodes that it brings are processes on this machine, or never come."""

import contextlib
import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml
from ports import free_port, wait_until_answers
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

QUOTA = "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket"
GROWING = {
    "cluster_name": "growing",
    "max_workers": 2,
    "idle_timeout_minutes": 10,
    "upscaling_speed": 1.0,
    "auth": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    **{f"{what}_commands": [] for what in ("initialization", "setup", "head_setup", "worker_setup")},
    **{f"{kind}_start_ray_commands": [] for kind in ("head", "worker")},
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "foreground_node_launch": True,
    },
    "head_node_type": "ray.head.default",  # what the fake provider calls it; else a head is launched and ended for ever
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 1},
        "gpu": {"resources": {"CPU": 0, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 1},
    },
}
# The provider of an account whose quota is 0: `provider` of such a cluster.
WITHOUT_QUOTA = {"type": "external", "module": "growing_cluster.ProviderWithoutQuota"}


class ProviderWithoutQuota(FakeMultiNodeProvider):  # type: ignore[misc]
    """Refuses every node, as AWS's provider does: with the code and the message of EC2's answer."""

    def create_node_with_resources_and_labels(self, *asked: Any) -> dict[str, Any]:
        raise NodeLaunchException("VcpuLimitExceeded", QUOTA, None)


@contextlib.contextmanager
def growing_cluster(
    folder: Path, provider: dict[str, str] | None = None, head: dict[str, float] | None = None, **environment: str
) -> Iterator[dict[str, str]]:
    """Start the head, which has no CPU; yields the environment of a driver there, whose home is `folder`.

    provider: what differs in the yaml's. head: further resources of the head. environment: further variables of all
    processes.
    """
    port = free_port()
    config = copy.deepcopy(GROWING)
    config["provider"] |= {"gcs_address": f"127.0.0.1:{port}"} | (provider or {})
    bootstrap = folder / "ray_bootstrap_config.yaml"  # where `ray up` leaves it: in the head's home
    bootstrap.write_text(yaml.safe_dump(config))
    driver = os.environ | {
        "HOME": str(folder),
        "RAY_AUTH_MODE": "disabled",
        "RAY_ADDRESS": f"127.0.0.1:{port}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **environment,
    }
    started = ["start", "--head", "--block", "--num-cpus", "0", "--port", str(port), "--include-dashboard", "false"]
    quiet = ["--disable-usage-stats", "--object-store-memory", str(128 * 2**20), "--autoscaling-config", str(bootstrap)]
    process = subprocess.Popen(
        [Path(sys.executable).parent / "ray", *started, *quiet, "--resources", json.dumps(head or {})],
        env=driver | {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until_answers(port, process)
        yield driver
    finally:
        theirs = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        for child in theirs:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()
