"""What there is to run on, and what it refuses. The joined cluster's own room is in test_ray.py."""

import os
import socket

import pytest
import yaml
from made_plan import PLAN

from svgan.errors import UserError
from sweeps.ray_runtime import internals, resources, session
from sweeps.ray_runtime.resources import CLUSTER, HEAD, HERE, SLOT, Resources
from sweeps.storage.plan import Plan


def plan(**change):
    return Plan.from_fields(PLAN | change)


def here(cpus=2.0, gpus=0.0, gb=16.0):
    return Resources(HERE, ({"CPU": cpus, "GPU": gpus},), gb=gb)


def test_what_fits_is_let_through():
    resources.check_resources(plan(), here())
    resources.check_memory(plan(), here())


@pytest.mark.parametrize(
    ("change", "there", "words"),
    [
        ({"workers": 8}, here(), "--workers: a trial asks 8 x 1 = 8 CPU, this machine has 2"),
        ({"gpus_per_worker": 1}, here(), "--gpus-per-worker: a trial asks 1 x 1 = 1 GPU, this machine has 0"),
        ({"concurrency": 3}, here(), "--concurrency 3: .* at most 2 fit"),
        (
            {},
            Resources(CLUSTER, ({"CPU": 64},), slots=1),
            "--concurrency 2: the cluster offers 1 trial_slot; .*--resources",
        ),
        (
            {"cpus_per_worker": 2, "concurrency": 1},
            Resources(CLUSTER, ({"CPU": 1}, {"CPU": 1}), slots=2),
            "--workers 1: 1 workers of 2 CPU are asked, each whole on one node; the cluster has places for 0",
        ),
        (
            {"workers": 2, "gpus_per_worker": 0.5},
            here(gpus=1),
            "--gpus-per-worker 0.5: two of a trial's 2 workers could get the same GPU, which NCCL refuses; give ",
        ),
        (
            {"workers": 2, "gpus_per_worker": 0.33, "concurrency": 1},
            Resources(CLUSTER, ({"CPU": 8, "GPU": 2},) * 4, slots=2),
            "--gpus-per-worker 0.33: .* the same GPU, .*--workers 1, or --gpus-per-worker 0 .*, or --gpus-per-worker 1",
        ),
        (
            {"concurrency": 4, "gpus_per_worker": 0.6},
            here(cpus=8, gpus=3),
            "--concurrency 4: 4 workers of 1 CPU and 0.6 GPU are asked, .* this machine has places for 3",
        ),
        (
            {"gpus_per_worker": 1, "workers": 2},
            Resources(CLUSTER, ({"CPU": 8, "GPU": 2},), ({"CPU": 8, "GPU": 1},), slots=2),
            "--concurrency 2: so many trials ask 4 GPU, the cluster has 3 with all nodes its autoscaler may add",
        ),
    ],
)
def test_what_could_never_be_placed_is_refused(change, there, words):
    with pytest.raises(UserError, match=words):
        resources.check_resources(plan(**change), there)


def test_two_workers_on_one_gpu_are_refused_by_default_too():
    """NCCL refuses two ranks on one device; the default share was a half, which put them there."""
    there = here(gpus=1)
    asked = {"workers": 2, "gpus_per_worker": resources.gpu_share(there, 2, None), "concurrency": 1}
    with pytest.raises(
        UserError, match=r"--workers 2: each needs a GPU of its own, .*; this machine has 1; give --wor"
    ):
        resources.check_resources(plan(**asked), there)
    apart = plan(workers=3, gpus_per_worker=0.6, concurrency=1)
    resources.check_resources(apart, here(cpus=8, gpus=3))


def test_what_an_autoscaler_may_add_counts():
    there = Resources(CLUSTER, ({"CPU": 0, SLOT: 4},), ({"CPU": 4, "GPU": 1},) * 2, slots=4)
    resources.check_resources(plan(gpus_per_worker=1), there)
    assert there.workers(1, 1, now=True) == 0
    assert resources.fitting_concurrency(there, workers=1, cpus=1, gpus=1, trials=9) == 2


@pytest.mark.parametrize(
    ("change", "there", "words"),
    [
        ({}, here(gb=1.0), "memory: 1.0 GB free, one trial needs about"),
        ({"concurrency": 2}, here(gb=4.5), "--concurrency 2: so many trials need about .* 4.5 GB free; at most 1"),
        (
            {"concurrency": 16},
            Resources(CLUSTER, (), gb=8.0),
            r"--concurrency 16: .* the head has 8.0 GB free; at most \d+",
        ),
    ],
)
def test_memory_for_the_drivers_is_counted(change, there, words):
    with pytest.raises(UserError, match=words):
        resources.check_memory(plan(**change), there)


@pytest.mark.parametrize(
    ("there", "asked", "fits"),
    [
        (here(2, 0, 20), {"workers": 1, "gpus": 0, "trials": 6}, 2),
        (here(2, 0, 5), {"workers": 1, "gpus": 0, "trials": 6}, 1),
        (here(2, 0, 20), {"workers": 2, "gpus": 0, "trials": 6}, 1),
        (here(16, 2, 90), {"workers": 1, "gpus": 1, "trials": 6}, 2),
        (here(16, 2, 90), {"workers": 1, "gpus": 0, "trials": 3}, 3),
        (here(1, 0, 2), {"workers": 4, "gpus": 0, "trials": 3}, 1),
    ],
)
def test_concurrency_follows_cpus_gpus_and_memory(there, asked, fits):
    assert resources.fitting_concurrency(there, cpus=1, **asked) == fits


def test_gpus_are_shared_when_workers_outnumber_them():
    assert resources.gpu_share(here(), 2, None) == 0
    assert resources.gpu_share(here(gpus=1), 1, None) == 1
    assert resources.gpu_share(here(gpus=1), 1, 3) == 0.33
    assert resources.gpu_share(here(gpus=4), 2, 2) == 1
    assert resources.gpu_share(here(gpus=4), 1, 5) == 0.5, "a share is of one GPU: five of 0.8 do not fit on four"
    assert resources.gpu_share(here(gpus=1), 2, None) == 1, "two workers of a trial never share a GPU"


def test_the_local_cluster_is_told_from_a_dead_one(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert resources.cluster_address() is None
    (tmp_path / "ray").mkdir()
    left = tmp_path / "ray" / "ray_current_cluster"
    left.write_text("127.0.0.1:1\n")
    assert resources.cluster_address() is None
    with socket.create_server(("127.0.0.1", 0)) as head:
        left.write_text(f"127.0.0.1:{head.getsockname()[1]}\n")
        assert resources.cluster_address() == left.read_text().strip()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert resources.cluster_address() == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert resources.cluster_address() is None


def test_this_machine_has_what_the_process_may_use():
    there = resources.machine()
    assert 1 <= there.total("CPU") <= (os.cpu_count() or 1)
    assert there.gb is not None
    assert there.gb > 0


def test_a_device_is_named_with_its_processor():
    kind, _, name = resources.device_name("cpu").partition(" ")
    assert kind == "cpu"
    assert name.strip()


LAUNCHED = {
    "max_workers": 5,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0, SLOT: 16}, "max_workers": 0},
        "spot": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 4},
        "large": {"resources": {"CPU": 48, "GPU": 4}},
    },
}


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """What `ray up` leaves on the head; Ray's own record of node groups is empty there."""
    monkeypatch.setattr(internals, "node_groups", list)
    path = tmp_path / "ray_bootstrap_config.yaml"
    monkeypatch.setattr(resources, "BOOTSTRAP", path)
    return path


def test_node_types_of_the_launcher_count_up_to_its_limit(launched):
    launched.write_text(yaml.safe_dump(LAUNCHED, sort_keys=False))
    head = {"CPU": 0.0, HEAD: 1.0, SLOT: 16.0}
    coming, known = resources.could_come([head])
    assert [node["GPU"] for node in coming] == [1, 1, 1, 1, 4]
    assert str(launched) in known
    coming, _ = resources.could_come([head, {"CPU": 4.0, "GPU": 1.0, "memory": 1e9}])
    assert [node["GPU"] for node in coming] == [1, 1, 1, 4]


def test_where_node_types_cannot_be_read_it_is_said(launched):
    assert resources.could_come([]) == (
        (),
        f"no node types to be read here ({launched} is missing), so only nodes that are there count",
    )
    launched.write_text("available_node_types: [1")
    coming, known = resources.could_come([])
    assert coming == ()
    assert "cannot be read" in known


def test_node_groups_that_the_cluster_reports_come_first(monkeypatch):
    monkeypatch.setattr(internals, "node_groups", lambda: [internals.NodeGroup("g", {"CPU": 8}, 3)])
    assert resources.could_come([])[0] == ({"CPU": 8.0},) * 3


def test_a_ray_that_does_not_start_is_one_line():
    with pytest.raises(UserError, match="Ray does not start on this machine"):
        session.start(attempts=2, num_cpus=1, object_store_memory=1)
