"""Ray's workers as forks: what they are given, and what happens where there is no server."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sweeps.ray_runtime import fork_server, forked_worker
from sweeps.ray_runtime.forked_worker import CONTEXT, SOCKET

CLIENT = forked_worker.__file__
TELL = (
    "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), os.environ['GIVEN'], 'torch' in sys.modules]))"
)


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(TELL)
    return path


def asked_for(script: Path, *, context: dict | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, CLIENT, str(script), "--one", "--language=PYTHON", CONTEXT + json.dumps(context or {})]
    environment = os.environ | {"GIVEN": "by the raylet"}
    return subprocess.run(command, cwd=script.parent, env=environment, capture_output=True, text=True, timeout=120)


def test_a_worker_has_its_own_command_folder_environment_and_output(script):
    around = os.environ.get(SOCKET)  # another room's, of this same process
    with fork_server.forkserver():
        done = asked_for(script, context={"env_vars": {"GIVEN": "by the actor"}})
        assert os.environ[SOCKET] != around
    assert json.loads(done.stdout) == [["--one"], str(script.parent), "by the actor", True]
    assert os.environ.get(SOCKET) == around


def test_a_server_within_a_servers_block_gives_its_place_back(monkeypatch):
    monkeypatch.setenv(SOCKET, "around")
    with fork_server.forkserver():
        assert os.environ[SOCKET] != "around"
    assert os.environ[SOCKET] == "around"


@pytest.mark.parametrize("gone", ["never there", "died"])
def test_without_a_server_a_worker_starts_as_ever(script, monkeypatch, tmp_path, gone):
    if gone == "died":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "socket"))
    monkeypatch.setenv(SOCKET, str(tmp_path / "socket"))
    done = asked_for(script)
    assert json.loads(done.stdout.splitlines()[-1]) == [["--one"], str(script.parent), "by the raylet", False], (
        done.stderr
    )


def test_what_a_fork_cannot_be_is_left_to_ray(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/usr/bin/python")
    assert forked_worker.wanted(["worker.py", CONTEXT + "{}"])["command"] == ["worker.py"]
    for context in ({"command_prefix": ["cd /x &&"]}, {"py_executable": "uv run"}, {"override_worker_entrypoint": "x"}):
        assert forked_worker.wanted(["worker.py", CONTEXT + json.dumps(context)]) == {}


def test_a_fork_of_one_job_is_no_worker_of_another(monkeypatch):
    monkeypatch.setattr(fork_server, "import_ray", lambda: None)
    for name in (fork_server.JOB, fork_server.RAYLET):
        monkeypatch.setenv(name, "")
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    first = {fork_server.JOB: "01000000", fork_server.RAYLET: "12"}
    assert fork_server.fitting({fork_server.JOB: fork_server.NO_JOB, fork_server.RAYLET: "12"})
    assert fork_server.fitting(first)
    monkeypatch.setitem(sys.modules, "ray", fork_server)
    assert fork_server.fitting(dict(first))
    assert not fork_server.fitting(first | {fork_server.JOB: "02000000"})
    assert not fork_server.fitting({fork_server.JOB: fork_server.NO_JOB, fork_server.RAYLET: "12"})


def test_a_server_that_fails_in_a_fork_goes_on_with_nothing_of_its_studys():
    code = "import os, socket; from sweeps.ray_runtime import fork_server\n"
    code += "fork_server.serve = lambda listening: 1 / 0\n"
    code += "try: fork_server._forked(socket.socket())\n"
    code += "finally: os.write(1, b'once ')\n"
    code += "os.wait()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "once "


def test_who_connects_and_says_nothing_is_told_from_a_worker():
    here, there = socket.socketpair()
    here.close()
    with there, pytest.raises(EOFError):
        forked_worker.receive(there)


@pytest.mark.slow
def test_a_server_whose_study_was_killed_ends_and_leaves_nothing():
    code = "import os, time; from sweeps.ray_runtime.fork_server import SOCKET, forkserver\n"
    code += "with forkserver(): print(os.environ[SOCKET], flush=True); time.sleep(600)"
    study = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    folder = Path(study.stdout.readline().strip()).parent
    (server,) = psutil.Process(study.pid).children()
    assert folder.exists()
    study.kill()
    study.communicate()
    psutil.wait_procs([server], timeout=120)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert not folder.exists()
