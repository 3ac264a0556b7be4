"""`make submit` on the user's side, as far as no cluster is needed; tests/e2e runs it whole."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_yaml import edited

from cluster import submit as from_here

ROOT = Path(__file__).parents[2]


def test_arguments_reach_the_study_as_they_were_given(tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "gap.py").write_text(
        "import os, sys\n"
        "print(os.environ['SVGAN_COMMIT'], len(os.environ['SVGAN_PACKAGE']), sys.argv[1:])\n"
        "sys.exit(7)\n"
    )
    given = ["--name", "a b", "--grid", "it's=$HOME", "", "*"]
    command = from_here.remote_command("sweeps/gap.py", given, "abc-dirty")
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "python").symlink_to(sys.executable)
    done = subprocess.run(
        ["bash", "-c", command],
        env={"PATH": f"{bin}:/usr/bin:/bin", "HOME": str(tmp_path), "SVGAN_REPO": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout.strip() == f"abc-dirty 12 {given}"


def test_make_hands_quoted_arguments_on_whole(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tmp_path / ".ready").touch()
    (tools / "python").write_text('#!/bin/sh\nfor a in "$@"; do echo "[$a]"; done\n')
    (tools / "python").chmod(0o755)
    make = ["make", "-s", "-o", str(tmp_path / ".ready"), "submit", f"VENV={tmp_path}", "ARGS=--name 'a b'"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
    words = ["cluster/submit.py", "--cluster", "cluster/gpu.yaml", "sweeps/gap.py", "--", "--name", "a b"]
    assert done.stdout.split("\n")[:-1] == [f"[{word}]" for word in words], done.stderr
    assert done.returncode == 0


def test_make_fails_when_the_study_does_and_says_its_exit_code(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tmp_path / ".ready").touch()
    (tools / "python").write_text("#!/bin/sh\nexit 3\n")
    (tools / "python").chmod(0o755)
    make = ["make", "-s", "-o", str(tmp_path / ".ready"), "submit", f"VENV={tmp_path}"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2  # of make's own, whatever failed; cluster/submit.py itself ends with the true one
    assert done.stderr.strip().endswith("submit] Error 3")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sweeps/nothing.py"], "SCRIPT sweeps/nothing.py: no study"),
        (["README.md"], "SCRIPT README.md: no study"),
        (["--cluster", "nowhere.yaml", "sweeps/gap.py"], "--cluster nowhere.yaml: no such file"),
        (["sweeps/gap.py"], "gpu.yaml: metadata.bucket: CHANGE-ME is to be edited"),
        (["--cluster", "cluster/kuberay.yaml", "sweeps/gap.py"], "Kubernetes takes it: kubectl apply"),
        (["sweeps/gap.py", "--", "--tracking", "http://me:geheim@host"], "ARGS: no password in the URL"),
        (["sweeps/gap.py", "--", "--optuna=postgresql://me:geheim@host/db"], "ARGS: no password in the URL"),
    ],
)
def test_what_is_not_there_is_named_before_anything_is_sent(arguments, says, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert from_here.main(arguments) == 2
    told = capsys.readouterr().err
    assert says in told
    assert "geheim" not in told


def test_a_cluster_that_is_not_up_is_one_line(tmp_path, capsys):
    config = edited(tmp_path, "onprem")
    config.write_text(config.read_text().replace("svgan-onprem", f"svgan-{tmp_path.name}"))
    assert from_here.main(["--cluster", str(config), str(ROOT / "sweeps/gap.py")]) == 2
    told = capsys.readouterr().err
    assert "cannot be synced (RuntimeError: Head node of cluster" in told
    assert told.endswith("is the cluster up (`ray up`)?\n")
    assert told.count("\n") == 1


def test_the_exit_code_is_that_of_the_command_on_the_head(tmp_path, monkeypatch):
    """Ray's own command runner, with an ssh on the path that ends as the remote command would."""
    from types import SimpleNamespace

    from ray.autoscaler import sdk
    from ray.autoscaler._private import command_runner, subprocess_output_util

    (tmp_path / "ssh").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    provider = SimpleNamespace(internal_ip=lambda node: "127.0.0.1")
    monkeypatch.setattr(subprocess_output_util, "_allow_interactive", True)
    runner = command_runner.SSHCommandRunner("", "n", provider, {"ssh_user": "me"}, "c", subprocess, True)
    monkeypatch.setattr(sdk, "run_on_cluster", lambda config, cmd: runner.run(cmd, exit_on_fail=True))
    assert from_here.run("x.yaml", "command") == 3
