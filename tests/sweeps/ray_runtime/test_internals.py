"""What Ray does not publish, on a real Ray, and the public ways beside it."""

import dataclasses
import json
import logging
import os
import subprocess
import sys
import time

import psutil
import pytest
import ray
from ray.exceptions import RayTaskError

from svgan.errors import UserError
from sweeps.ray_runtime import autoscaler, internals, placement_groups, session
from sweeps.ray_runtime.resources import SLOT
from sweeps.storage.tested_versions import PUBLIC_ONLY
from sweeps.trial import trainer

pytestmark = pytest.mark.filterwarnings("ignore:only the public interface of ray:RuntimeWarning")

PUBLIC, INTERNAL = "ray", ""


@pytest.fixture(scope="module")
def ray_here():
    """A local Ray whose autoscaler is of version 1, as cluster/onprem.yaml has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_enable_autoscaler_v2", "0")
        ray.init(
            address="local",
            num_cpus=1,
            resources={SLOT: 1},
            object_store_memory=80 * 2**20,
            include_dashboard=True,
            log_to_driver=False,
            configure_logging=False,
        )
        yield ray
        ray.shutdown()


@pytest.fixture
def silent_autoscaler():
    """Ray's own autoscaler, which writes its report every 5 s, stands still."""
    monitors = [child for child in psutil.Process().children() if "monitor.py" in " ".join(child.cmdline())]
    assert monitors
    for monitor in monitors:
        monitor.suspend()
    yield
    for monitor in monitors:
        monitor.resume()


@pytest.fixture(params=[INTERNAL, PUBLIC], ids=["internal", "public"])
def way(request, monkeypatch):
    monkeypatch.setenv(PUBLIC_ONLY, request.param)
    return request.param


def test_hosts_that_are_set_up_are_found_in_the_autoscalers_report(ray_here, silent_autoscaler, way):
    """Ray's own summary is written to its store, and read from there, or from what `ray status` prints of it."""
    from ray.autoscaler._private.autoscaler import AutoscalerSummary
    from ray.autoscaler._private.load_metrics import LoadMetricsSummary
    from ray.experimental.internal_kv import _internal_kv_put

    kind = "local.cluster.node"
    summary = AutoscalerSummary(
        active_nodes={kind: 1},
        idle_nodes=None,
        pending_nodes=[("10.0.0.5", kind, "setting-up"), ("10.0.0.6", kind, "waiting-for-ssh")],
        pending_launches={kind: 1},
        failed_nodes=[("10.0.0.7", kind)],
        legacy=True,
    )
    load = LoadMetricsSummary(
        usage={}, resource_demand=[], pg_demand=[], request_demand=[], node_types=[], head_ip="127.0.0.1"
    )
    report = {
        "autoscaler_report": dataclasses.asdict(summary),
        "load_metrics_report": dataclasses.asdict(load),
        "time": 1.0,
    }
    hosts, text = {"10.0.0.5", "10.0.0.6"}, json.dumps(report)
    _internal_kv_put(internals.AUTOSCALER_REPORT, text, overwrite=True)
    assert autoscaler.pending_hosts() == hosts


def test_node_groups_are_those_that_the_cluster_reports(ray_here, way, monkeypatch):
    assert internals.node_groups() == []
    from ray.core.generated.autoscaler_pb2 import ClusterConfig, NodeGroupConfig

    reported = ClusterConfig(node_group_configs=[NodeGroupConfig(name="g", resources={"CPU": 8}, max_count=3)])
    monkeypatch.setattr("ray._private.state.GlobalState.get_cluster_config", lambda self: reported)
    assert internals.node_groups() == ([("g", {"CPU": 8}, 3)] if way == INTERNAL else [])


def test_what_ray_would_print_goes_to_the_log(ray_here, way, caplog, capsys):
    import ray._private.worker as worker

    told = {"lines": ["the raylet is unwell"], "pid": "raylet", "is_err": False}
    with caplog.at_level(logging.WARNING, "ray.of-this-test"):
        with internals.raylet_errors_to(logging.getLogger("ray.of-this-test").warning):
            worker.print_to_stdstream(told, ignore_prefix=False)
        logged = caplog.text
    assert ("raylet: the raylet is unwell" in logged) == (way == INTERNAL)
    assert ("the raylet is unwell" in capsys.readouterr().out) == (way == PUBLIC)


@pytest.fixture(scope="module")
def another_ray():
    """Somebody else's Ray on this machine."""
    start = "import ray; ray.init(address='local', num_cpus=0, include_dashboard=False, object_store_memory=80 * 2**20)"
    code = f"{start}; print('there', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert any(line == "there\n" for line in run.stdout)
        yield
        run.communicate("\n")


def test_groups_of_a_dead_creator_are_found(ray_here, another_ray, way, monkeypatch):
    """Beside another Ray, and with RAY_ADDRESS=local in the environment of a study that starts its own."""
    monkeypatch.setattr(internals, "IDLE_SECONDS", 0.5)
    monkeypatch.setenv("RAY_ADDRESS", "local")

    @ray.remote(num_cpus=0)
    class Controller:
        def start(self):
            group = ray.util.placement_group([{"CPU": 0.1}])
            ray.get(group.ready())
            return group.id.hex()

    dead = Controller.remote()
    group = ray.get(dead.start.remote())
    ray.kill(dead)
    slot = ray.util.placement_group([{SLOT: 1}])  # as Tune makes one, by the driver, before its trial's actor
    ray.get(slot.ready())
    job, deadline, found, idle = ray.get_runtime_context().get_job_id(), time.monotonic() + 60, [], {}
    while not found and time.monotonic() < deadline:
        found = internals.leaked_groups(job, idle)
    assert found == [group]
    assert internals.leaked_groups("ffffffff", {}) == []
    placement_groups.remove_group(group)
    ray.util.remove_placement_group(slot)


def test_a_dashboard_that_is_away_is_said_once_and_its_groups_are_found_when_it_is_back(
    ray_here, another_ray, monkeypatch, capsys
):
    monkeypatch.setenv(PUBLIC_ONLY, PUBLIC)
    monkeypatch.setattr(placement_groups, "UNSEEN_SECONDS", 0.0)
    remover = placement_groups.LeakedGroupRemover()
    with pytest.MonkeyPatch.context() as away:
        away.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")  # where nothing listens
        remover.look()
        remover.look()
    said = capsys.readouterr().out
    assert said.count("places of stopped trials may stay taken") == 1
    remover.look()
    assert remover.unseen_since is None
    assert not capsys.readouterr().out


def test_tune_copies_no_key_whichever_version_it_is(way):
    from ray.tune.execution import class_cache

    session.keep_secrets()
    assert not set(session.AWS_SECRETS) & set(class_cache.ENV_VARS_TO_PROPAGATE)


def unlucky(kind, *words):
    raise kind(*words)


def as_train_wraps_it(kind, *words):
    from ray.train.v2._internal.util import construct_user_exception_with_traceback

    try:
        unlucky(kind, *words)
    except Exception as error:
        return construct_user_exception_with_traceback(error)


def test_a_workers_exception_is_one_line_either_way(way):
    assert trainer.described(as_train_wraps_it(UserError, "give --workers 1; two do not fit")) == (
        "give --workers 1; two do not fit"
    )
    line = trainer.described(as_train_wraps_it(ValueError, "first\nsecond"))
    assert line.startswith("ValueError: first at test_internals.py:")
    assert line.endswith(" in unlucky")
    assert trainer.described(as_train_wraps_it(KeyError)).startswith("KeyError: no message at test_internals.py")
    assert trainer.described(OSError("gone")) == "OSError: gone"
    caused = RayTaskError("f", "a traceback", UserError("not here"))
    assert trainer.described(caused) == "not here"


def test_a_ray_that_hears_no_sigterm_is_shut_down_with_all_that_it_started():
    """In a process of its own, where no Ray has been before: SIGTERM for all that it has started, and for itself."""
    code = (
        "import json, os, signal, sys\nimport psutil\nfrom sweeps.ray_runtime import session\n"
        "heard = []\nsignal.signal(signal.SIGTERM, lambda *_: heard.append(1))\n"
        "session.start(num_cpus=1, object_store_memory=100 * 2**20)\nimport ray\n"
        "@ray.remote\nclass Worker:\n    def pid(self):\n        return os.getpid()\n"
        "worker = Worker.remote()\npid = ray.get(worker.pid.remote())\n"
        "below = psutil.Process().children(recursive=True)\n"
        "for process in [*below, psutil.Process()]:\n    process.terminate()\n"
        "assert heard == [1]\nassert ray.get(worker.pid.remote()) == pid\n"
        "assert pid in [process.pid for process in below]\n"
        "session.shut_down()\n"
        "assert psutil.wait_procs(below, timeout=60)[1] == []\nprint('done')\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_AUTH_MODE": "token"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=600)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "SIGTERM received" not in done.stderr
