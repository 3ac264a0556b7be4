"""A study submitting itself as a Ray Job: what needs no Ray (the rest is in tests/faults/test_jobs.py)."""

import asyncio
import http.server
import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.job_submission import JobStatus

import sweeps
from svgan.errors import UserError
from sweeps.ray_runtime import job_submission
from sweeps.ray_runtime.internals import JOB_CONFIG
from sweeps.storage import provenance
from sweeps.storage.tested_versions import PUBLIC_ONLY

ROOT = Path(sweeps.__file__).parents[1]


@pytest.fixture
def repo(tmp_path, monkeypatch):
    folder = tmp_path / "repo"
    for name, text in {"svgan/__init__.py": "", "svgan/weights.bin": "w", "sweeps/gap.py": "print(1)\n"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / ".git-like").mkdir()
    monkeypatch.setenv("SVGAN_REPO", str(folder))
    monkeypatch.delenv("SVGAN_COMMIT", raising=False)
    monkeypatch.delenv("SVGAN_PACKAGE", raising=False)
    return folder


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "gap.py"
    path.write_text("print(1)\n")
    return path


def test_the_package_is_the_synced_one_with_its_digest(repo, script, tmp_path, monkeypatch):
    made = job_submission.package(script, tmp_path / "copy")
    copied = sorted(p.relative_to(made.folder).as_posix() for p in made.folder.rglob("*") if p.is_file())
    assert copied == ["svgan/__init__.py", "svgan/weights.bin", "sweeps/gap.py"]
    assert made.script == "sweeps/gap.py"
    assert made.digest == provenance.package_digest(repo / "svgan", repo / "sweeps")
    assert made.commit is None
    (repo / "svgan" / "__init__.py").write_text("changed = 1\n")
    monkeypatch.setenv("SVGAN_COMMIT", "abc")
    again = job_submission.package(script, tmp_path / "again")
    assert again.digest != made.digest
    assert again.commit == "abc"


def test_a_removed_file_that_is_still_on_the_head_is_refused(repo, script, tmp_path, monkeypatch):
    monkeypatch.setenv("SVGAN_PACKAGE", provenance.package_digest(repo / "svgan", repo / "sweeps"))
    job_submission.package(script, tmp_path / "copy")
    (repo / "sweeps" / "removed.py").write_text("")
    with pytest.raises(UserError, match=r"a file that you removed is still there: ray exec .*rm -r .*/svgan .*/sweeps"):
        job_submission.package(script, tmp_path / "again")


def test_the_digest_is_the_one_that_the_package_itself_would_log():
    assert provenance.package_digest(ROOT / "svgan", ROOT / "sweeps") == provenance.package_digest()


def test_a_script_that_is_not_the_packages_is_refused(repo, script, tmp_path):
    script.write_text("print(2)\n")
    with pytest.raises(UserError, match=r"gap.py: differs from the one in the package.*make submit"):
        job_submission.package(script, tmp_path / "copy")
    other = script.with_name("mine.py")
    other.write_text("")
    with pytest.raises(UserError, match=r"mine.py: is not in the package"):
        job_submission.package(other, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_repository_that_is_not_there_is_named(tmp_path, script, monkeypatch):
    monkeypatch.setenv("SVGAN_REPO", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"SVGAN_REPO .*nowhere: no svgan/ in it"):
        job_submission.package(script, tmp_path / "copy")


def test_arguments_stay_whole():
    arguments = ["--name", "a b", "--grid", "critic=x'y", "$HOME", ""]
    assert shlex.split(job_submission.entrypoint("sweeps/gap.py", arguments)) == [
        sys.executable,
        "sweeps/gap.py",
        *arguments,
    ]


def test_nothing_secret_is_passed_on(monkeypatch):
    monkeypatch.setenv("SVGAN_WORKERS", "2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "geheim")
    told = job_submission.passed_on("abc")
    assert told["SVGAN_WORKERS"] == "2"
    assert told["SVGAN_COMMIT"] == "abc"
    assert told["RAY_JOB_STOP_WAIT_TIME_S"] == "120"
    assert "geheim" not in told.values()


def test_a_study_is_submitted_once(monkeypatch):
    for name in (JOB_CONFIG, job_submission.JOB):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SVGAN_CLUSTER", raising=False)
    assert not job_submission.needed()
    monkeypatch.setenv("SVGAN_CLUSTER", "1")
    assert job_submission.needed()
    for name, value in job_submission.passed_on(None).items():
        monkeypatch.setenv(name, value)
    assert not job_submission.needed()


@pytest.mark.parametrize("public_only", ["", "ray"])
def test_a_job_that_somebody_else_submitted_is_known_by_rays_own_variable(public_only, monkeypatch):
    monkeypatch.delenv(job_submission.JOB, raising=False)
    monkeypatch.setenv("SVGAN_CLUSTER", "1")
    monkeypatch.setenv(JOB_CONFIG, "{}")
    monkeypatch.setenv(PUBLIC_ONLY, public_only)
    assert job_submission.needed() == bool(public_only)


class LateAgent(http.server.BaseHTTPRequestHandler):
    """The routes of Ray's dashboard that take a job, on a head whose job agent comes after `late` requests."""

    late: int

    def do_GET(self):
        self.answer(200, json.dumps({"version": "4", "ray_version": "2", "ray_commit": "0"}))

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).late -= 1
        if self.late >= 0:
            self.answer(500, "No available agent to submit job, please try again later.")
        else:
            self.answer(200, json.dumps({"submission_id": asked["submission_id"], "job_id": "1"}))

    def answer(self, code, text):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def late_head(monkeypatch):
    """Makes the address of a head whose agent comes after so many requests Ray's own."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), LateAgent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{server.server_port}")
        yield lambda late: setattr(LateAgent, "late", late)
        server.shutdown()


def test_a_head_just_started_is_waited_for(late_head, repo, script, tmp_path, capsys):
    late_head(2)
    made = job_submission.package(script, tmp_path / "copy")
    assert job_submission._submitted(made, [], "gap")[1].startswith("gap-")
    assert capsys.readouterr().out.count("waiting for the head's job agent") == 1


def test_a_head_without_an_agent_is_one_line(late_head, repo, script, tmp_path, monkeypatch):
    late_head(1000)
    monkeypatch.setattr(job_submission, "AGENT_SECONDS", 0.2)
    made = job_submission.package(script, tmp_path / "copy")
    with pytest.raises(UserError, match=r"cannot be submitted .*No available agent.*listen-port=0"):
        job_submission._submitted(made, [], "gap")


def test_what_stops_a_job_is_printed_for_studies_and_for_what_is_none(late_head, repo, script, monkeypatch, capsys):
    async def followed(*_):
        return 0

    late_head(0)
    monkeypatch.setenv("SVGAN_CLUSTER", "cluster/gpu.yaml")
    monkeypatch.setattr(job_submission, "follow", followed)
    job_submission.submit(script, [], "gap")
    assert "stop it with: ray exec cluster/gpu.yaml 'python -m sweeps stop gap'\n" in capsys.readouterr().out
    job_submission.submit(script, [], "embed", study=False)
    told = capsys.readouterr().out
    job = told.split("submitted as job ")[1].split()[0]
    assert job.startswith("embed-")
    assert f"stop it with: ray exec cluster/gpu.yaml 'ray job stop {job}'\n" in told


def test_ray_still_says_that_there_is_no_agent_in_these_words():
    assert (
        job_submission.NO_AGENT
        in Path(ray.__file__).with_name("dashboard").joinpath("modules/job/job_head.py").read_text()
    )


class Dashboard:
    """Sends a log in chunks, from its beginning each time; a chunk may be an error."""

    def __init__(self, calls, status=JobStatus.SUCCEEDED, code=None):
        self.calls, self.ended = iter(calls), SimpleNamespace(status=status, driver_exit_code=code, message="why")

    async def tail_job_logs(self, job):
        for chunk in next(self.calls):
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    def get_job_info(self, job):
        return self.ended


def test_a_log_is_shown_once_though_the_dashboard_went_away(capsys):
    dashboard = Dashboard([["one\n", "tw", OSError("away")], ["one\ntwo\n", "three\n"]], JobStatus.FAILED, 7)
    assert asyncio.run(job_submission.follow(dashboard, "j")) == 7
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, -9, 137),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 143),
    ],
)
def test_the_exit_code_is_the_jobs(status, code, expected):
    assert asyncio.run(job_submission.follow(Dashboard([[]], status, code), "j")) == expected


def test_a_dashboard_that_stays_away_is_one_line(monkeypatch):
    monkeypatch.setattr(job_submission, "DASHBOARD_SECONDS", -1.0)
    with pytest.raises(UserError, match="dashboard has been away"):
        asyncio.run(job_submission.follow(Dashboard([[OSError("gone")]]), "j"))


def test_a_process_keeps_the_first_token_it_has_read(tmp_path):
    """docs/traps.md: a test that talks to another head with a token of its own does so in a process of its own."""
    code = """if True:
        import os, pathlib
        from ray._raylet import AuthenticationTokenLoader
        for name in "ab":
            pathlib.Path(name).write_text(name * 32)
            os.environ["RAY_AUTH_TOKEN_PATH"] = name
            print(AuthenticationTokenLoader.instance().get_raw_token())
    """
    environment = os.environ | {"RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["a" * 32, "a" * 32]
