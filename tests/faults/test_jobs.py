"""A study on a cluster's head becomes a Ray Job: of the synced package, whatever happens to the terminal."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import psutil
import pytest
from ports import free_port, wait_until_answers
from s3_server import BUCKET
from video_files import talking_face, write_video

import svgan
from svgan.assets import cache
from svgan.images.domain import Domain
from svgan.io import storage
from svgan.latents.shards import open_latents
from svgan.pipelines.embed import embed
from sweeps.storage import provenance
from sweeps.storage.plan import Plan
from sweeps.tracking.client import Tracking

pytestmark = pytest.mark.slow

BIN, ROOT = Path(sys.executable).parent, Path(svgan.__file__).parents[1]
TOKEN = "0123456789abcdef" * 4
SMALL = ("--steps", "64", "--clips", "0", "--grid", "gap_weight=0,100", "width=8")


class Head:
    """A home folder with the synced package in it and a Ray head with dashboard and token, as `ray up` leaves it."""

    def __init__(self, home: Path, domain: str, agent_port: int = 0, **environment: str) -> None:
        """agent_port: of the agent that runs jobs; 0 is one that is free, Ray's own default one for all heads."""
        self.home, self.repo = home, home / "svgan-repo"
        for room in ("svgan", "sweeps"):
            shutil.copytree(ROOT / room, self.repo / room, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "tests" / "sweeps" / "toy.py", self.repo / "sweeps" / "toy.py")
        shutil.copy(ROOT / "tests" / "sweeps" / "toy.py", home / "toy.py")
        with (self.repo / "sweeps" / "ends.py").open("a") as file:
            file.write("# not the code of the environment\n")
        # Not in the test's own temporary folder: Ray's sockets take paths of up to 107 bytes. Not shared with another
        # Ray: a job finds its own by the folder (docs/traps.md).
        self.sessions = Path(tempfile.mkdtemp(prefix="svgan-ray-", dir="/tmp"))
        ports = [free_port() for _ in range(2)]
        left_out = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
        self.environment = {name: value for name, value in os.environ.items() if name not in left_out} | {
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),  # what is installed, and not what the job must run
            "SVGAN_CLUSTER": "cluster/gpu.yaml",
            "SVGAN_REPO": str(self.repo),
            "SVGAN_COMMIT": "c0ffee",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(home / "token"),
            "RAY_ADDRESS": f"127.0.0.1:{ports[0]}",
            "TOY_DOMAIN": domain,
            "SVGAN_CACHE": str(cache.cache_folder()),
            **environment,
        }
        (home / "token").write_text(TOKEN)
        where = ["--head", "--port", str(ports[0]), "--dashboard-port", str(ports[1]), "--num-cpus", "2"]
        where += ["--dashboard-agent-listen-port", str(agent_port), "--temp-dir", str(self.sessions)]
        self.process = subprocess.Popen(
            [BIN / "ray", "start", "--block", "--disable-usage-stats", "--resources", '{"trial_slot": 2}', *where]
            + ["--object-store-memory", str(128 * 2**20)],
            env={name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"},
            cwd=home,
            stdout=(home / "head.out").open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.dashboard = ports[1]
        wait_until_answers(self.dashboard, self.process, home / "head.out")

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *command],
            env=self.environment,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str) -> tuple[int, str]:
        process = self.start(*command)
        shown, _ = process.communicate(timeout=600)
        return process.returncode, shown

    def kill(self) -> None:
        if self.process.poll() is None:
            below = psutil.Process(self.process.pid).children(recursive=True)
            for process in [psutil.Process(self.process.pid), *below]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self.sessions, ignore_errors=True)  # what was killed may still be writing


@pytest.fixture(scope="module")
def head(tmp_path_factory, footage):
    home = tmp_path_factory.mktemp("home")
    waits = {"TOY_PACE": "0", "TOY_HEEDS": "long", "TOY_HEEDS_AT": "45,145", "TOY_MARK": str(home / "waits")}
    made = Head(home, footage[0], **waits)
    yield made
    made.end()


def test_a_study_runs_as_a_job_of_the_synced_package(head):
    code, shown = head.run("toy.py", "--name", "whole", *SMALL)
    assert code == 0, shown
    digest = provenance.package_digest(head.repo / "svgan", head.repo / "sweeps")
    assert digest != provenance.package_digest()
    assert f"(package {digest}, commit c0ffee)" in shown
    assert "ray job logs -f whole-" in shown
    plan = Plan.load(head.home / "runs" / "whole")
    assert plan.output.tracking == f"sqlite:///{head.home}/mlflow.db"
    tracking = Tracking(plan)
    runs = [tracking.client.get_run(tracking.parent_id()), *tracking.runs()]
    assert len(runs) == 3
    for run in runs:
        assert run.data.tags["package"] == digest
        assert run.data.tags["commit"] == "c0ffee"
        assert run.info.status == "FINISHED"


def test_an_embedding_runs_as_a_job_and_makes_what_one_process_does(head, footage, tmp_path):
    video = write_video(head.home / "me.mkv", talking_face(0, 12))
    command = str(head.repo / "sweeps" / "__main__.py")
    code, shown = head.run(command, "embed", "me.mkv", "--out", "codes", "--domain", footage[0])
    assert code == 0, shown
    assert re.search(r"submitted as job embed-\w+ \(package \w+, commit c0ffee\)", shown)
    alone = embed([video], Domain.load(footage[0]), tmp_path / "codes").manifest
    assert open_latents(head.home / "codes").manifest == alone


def test_bad_input_that_only_the_job_can_find_ends_the_command_with_2(head):
    code, shown = head.run("toy.py", "--name", "bad", "--latents", "nowhere", *SMALL)
    assert code == 2, shown
    assert "no manifest.json here" in shown
    assert "Traceback" not in shown


def test_bad_input_that_can_be_seen_at_once_makes_no_job(head):
    for flags in (("--steps", "0"), ("--tracking", "http://me:geheim@host"), ("--what",), ("--name", "a b")):
        code, shown = head.run("toy.py", *flags)
        assert code == 2, shown
        assert "submitted" not in shown
        assert "geheim" not in shown


def test_a_head_whose_agents_port_is_taken_takes_no_job_and_its_user_learns_why(footage, tmp_path_factory):
    """Ray says so in the agent's log alone, and asks to try again later for ever. In a process of its own: one that has
    read this head's token would begin no other Ray (both in docs/traps.md)."""
    submitted = "submit._submitted(submit.package(Path('toy.py'), Path('copy')), [], 'toy')"
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        head = Head(tmp_path_factory.mktemp("home"), footage[0], agent_port=holder.getsockname()[1])
        try:
            (head.home / "copy").mkdir()
            code, shown = head.run(
                "-c",
                "from pathlib import Path; from sweeps.ray_runtime import job_submission as submit; "
                f"submit.AGENT_SECONDS = 0.0; {submitted}",
            )
        finally:
            head.end()
    assert code == 1
    assert re.search(r"UserError: .*No available agent.*its port .* another Ray.*dashboard_agent.log", shown), shown


def test_the_terminal_may_go_and_a_stopped_job_is_resumed_as_another(head):
    """At steps 45 and 145 its worker waits for a stop: Ray's, which is SIGTERM, then our own."""
    flags = ("--steps", "320", "--clips", "0", "--grid", "gap_weight=100", "width=8")
    process = head.start("toy.py", "--name", "long", *flags)
    shown = ""
    while "latent FD" not in shown:
        line = process.stdout.readline()
        assert line, shown
        shown += line
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=300)
    assert process.returncode == 130, rest
    assert "goes on" in rest
    job = re.search(r"submitted as job (\S+)", shown)[1]
    ray = str(BIN / "ray")
    code, said = head.run(ray, "job", "stop", job)
    assert code == 0, said
    code, log = head.run(ray, "job", "logs", job)
    assert "keep their state first (SIGTERM again" in log
    again = "ray submit cluster/gpu.yaml sweeps/toy.py -- --resume long"
    assert f"stopped; go on with: {again}" in log
    assert "*** SIGTERM" not in log
    assert kept_step(head.home / "runs" / "long") == 46
    waits = head.home / "waits"
    waits.unlink()
    process = head.start("toy.py", "--resume", "long")
    while not waits.exists():
        assert process.poll() is None
        time.sleep(0.1)
    code, said = head.run("-m", "sweeps", "stop", "long")
    assert code == 0, said
    assert again in said
    process.communicate(timeout=300)
    assert kept_step(head.home / "runs" / "long") == 146
    code, shown = head.run("toy.py", "--resume", "long")
    assert code == 0, shown
    (run,) = Tracking(Plan.load(head.home / "runs" / "long")).runs()
    assert run.info.status == "FINISHED"


def kept_step(study: Path) -> int:
    last = max((study / "train-0000").glob("checkpoint_2*"))
    return json.loads((last / "state" / "state.json").read_text())["step"]


SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "Geheim-of-S3-7d1f0c",
    "MLFLOW_TRACKING_PASSWORD": "Geheim-of-MLflow-e02b",
    "PGPASSWORD": "Geheim-of-PostgreSQL-91aa",
}


class Listener(threading.Thread):
    """Reads the command lines of all processes, again and again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    def end(self) -> str:
        self.over.set()
        self.join()
        return "\n".join(self.seen)


def files_below(*folders: Path) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield str(path), path.read_bytes()


def test_secrets_get_into_nothing_that_a_study_writes(footage, tmp_path_factory, s3_server, monkeypatch):
    """Passwords and keys come by environment, or in a URL, which is refused; then everything is looked through."""
    where = f"s3://{BUCKET}/secrets"
    given = s3_server | SECRETS | {"AWS_ACCESS_KEY_ID": "planted", "MLFLOW_TRACKING_USERNAME": "me"}
    head = Head(tmp_path_factory.mktemp("home"), footage[0], SVGAN_STORAGE=where, **given)
    try:
        _, one = head.run("toy.py", "--tracking", f"http://me:{SECRETS['MLFLOW_TRACKING_PASSWORD']}@host")
        _, two = head.run("toy.py", "--optuna", f"postgresql://me:{SECRETS['PGPASSWORD']}@host/db")
        listener = Listener()  # what a user types stands in the list of processes; nothing else may
        code, shown = head.run("toy.py", "--name", "quiet", *SMALL)
        assert code == 0, shown
        ask = "from ray.job_submission import JobSubmissionClient as C; print(C().list_jobs())"
        code, jobs = head.run("-c", ask)
        assert code == 0, jobs
        processes = listener.end()
        head.kill()
        logs = dict(files_below(head.sessions))
    finally:
        head.end()
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    kept = tmp_path_factory.mktemp("kept")
    storage.download(f"{where}/quiet", kept)
    (head.home / "token").unlink()
    told = {"terminal": shown, "refusals": one + two, "jobs": jobs, "processes": processes}
    found = {name: text.encode() for name, text in told.items()} | dict(files_below(head.home, kept)) | logs
    assert found["refusals"].count(b"no password in the URL") == 2
    assert b"quiet-" in found["jobs"]
    assert b"toy.py --name quiet" in found["processes"]
    for name in ("quiet/study.json", "quiet/sweep.log", "mlflow.db", "usage/000000/", "/logs/gcs_server.out"):
        assert any(name in path for path in found), name
    for secret in (*SECRETS.values(), TOKEN):
        leaks = [path for path, content in found.items() if secret.encode() in content]
        assert leaks == [], secret
