"""AWS's notice, told by a server that answers as a machine's metadata service does, drains a real node."""

import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from ray_cluster import Cluster

from cluster import spot_notice

SPOT_NOTICE = spot_notice.__file__


class Metadata(BaseHTTPRequestHandler):
    """IMDSv2: a session by PUT, then GETs with its token, and 404 for what is not there."""

    there: dict[str, str]
    asked: list[str]

    def do_PUT(self):
        assert self.path == "/latest/api/token"
        assert 1 <= int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
        self._answer(200, "a-token")

    def do_GET(self):
        if self.headers["X-aws-ec2-metadata-token"] != "a-token":
            return self._answer(401, "")
        self.asked.append(self.path)
        name = self.path.removeprefix("/latest/meta-data/")
        return self._answer(200 if name in self.there else 404, self.there.get(name, ""))

    def _answer(self, status, text):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def metadata():
    handler = type("Handler", (Metadata,), {"there": {"instance-life-cycle": "spot"}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.address = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()


def notice(seconds):
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    return f'{{"action": "terminate", "time": "{at:%Y-%m-%dT%H:%M:%SZ}"}}'


def test_what_is_not_there_and_a_service_that_is_away_are_no_notice(metadata):
    assert spot_notice.ask(metadata.address, spot_notice.ACTION) is None
    metadata.there["spot/instance-action"] = notice(120)
    assert spot_notice.ask(metadata.address, spot_notice.ACTION) == metadata.there["spot/instance-action"]
    assert spot_notice.ask("http://127.0.0.1:1", spot_notice.ACTION) is None


def test_the_seconds_left_are_those_of_the_notice():
    now = datetime(2026, 11, 30, 8, 20, 0, tzinfo=UTC)
    assert spot_notice.seconds_left('{"action": "stop", "time": "2026-11-30T08:22:00Z"}', now) == 120
    assert spot_notice.seconds_left('{"action": "terminate", "time": "2026-11-30T08:19:00Z"}', now) == 1
    for text in ("", "{}", "[]", '{"time": 3}', '{"time": "soon"}'):
        with pytest.raises(ValueError, match="no notice of AWS's"):
            spot_notice.seconds_left(text, now)


def test_a_machine_on_demand_is_not_watched(metadata):
    metadata.there["instance-life-cycle"] = "on-demand"
    spot_notice.watch(metadata.address, "127.0.0.1:1", every=0.1)
    assert metadata.asked == ["/latest/meta-data/instance-life-cycle"]


def test_workers_of_aws_are_watched_from_their_start():
    with open(os.path.join(os.path.dirname(SPOT_NOTICE), "gpu.yaml")) as file:
        commands = yaml.safe_load(file)["worker_start_ray_commands"]
    (started,) = [command for command in commands if "spot_notice.py" in command]
    assert started == "python ~/svgan-repo/cluster/spot_notice.py start --address=$RAY_HEAD_IP:6379"


@pytest.mark.slow
def test_the_notice_drains_the_node_and_leaves_the_head(metadata):
    """What a drain does to a study is in faults/test_cluster.py."""
    cluster, watching = Cluster(), None
    try:
        cluster.add(1)
        cluster.until_cpus(1)
        (node,) = spot_notice.nodes_here(cluster.told_address)
        command = [sys.executable, SPOT_NOTICE, "watch", "--address", cluster.told_address, "--every", "0.2"]
        command += ["--metadata", metadata.address]
        environment = os.environ | cluster.environment
        watching = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        while not metadata.asked:
            time.sleep(0.1)
        second = subprocess.run(command, env=environment, timeout=600)
        assert second.returncode == 0, "one process watches a machine"
        assert watching.poll() is None
        metadata.there["spot/instance-action"] = notice(1200)
        _, told = watching.communicate(timeout=600)
        assert watching.returncode == 0
        assert f"drain of {node} within 1" in told
        assert told.rstrip().endswith("taken")
    finally:
        if watching is not None:
            watching.kill()
        cluster.close()
