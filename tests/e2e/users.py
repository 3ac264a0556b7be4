"""A user at a laptop with a cluster: the commands of the README, and what can be seen of what they did."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from hosts import Host, wait

from sweeps.storage.provenance import package_digest

PROBE = Path(__file__).with_name("probe.py").read_text()
LOAD = """
import mlflow, sys
clip = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}@champion").predict({"clips": [1], "frames": [9], "seed": [0]})
print("shape", clip.shape)
"""


class User:
    """laptop: has a clone of this repository in ~/svgan. file: the cluster's, in it. logs: a folder of this machine for
    what was typed and printed."""

    def __init__(self, laptop: Host, file: str, logs: Path) -> None:
        self.laptop, self.file, self.logs = laptop, file, logs

    def in_clone(self, *command: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        line = ("bash", "-c", 'cd svgan; exec "$@"', "bash", *command)
        done = self.laptop.run(*line, timeout=timeout, check=False)
        with (self.logs / "typed.log").open("a") as log:
            log.write(f"$ {' '.join(command)}\n{done.stdout}(exit code {done.returncode})\n\n")
        assert not (check and done.returncode), f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
        return done

    def ray(self, command: str, *arguments: str, timeout: float = 300) -> str:
        """`ray COMMAND FILE ...` in the clone; returns what it printed."""
        return self.in_clone("ray", command, self.file, *arguments, timeout=timeout).stdout

    def submit(self, name: str, *arguments: str) -> Submitted:
        """`ray submit FILE sweeps/gap.py`, in the background."""
        return self.begin(name, "ray", "submit", self.file, "sweeps/gap.py", "--", "--name", name, *arguments)

    def begin(self, name: str, *line: str) -> Submitted:
        """A command in the clone, in the background; name: of its log."""
        log = self.logs / f"{name}.log"
        return Submitted(self.laptop.begin("bash", "-c", 'cd svgan; exec "$@"', "bash", *line, log=log), log)


class Submitted:
    """A command that follows a study."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process, self.log = process, log

    def printed(self) -> str:
        return self.log.read_text()

    def until(self, text: str, seconds: float = 240) -> None:
        """Wait until it has printed this. Raises AssertionError where it ends before."""

        def seen() -> bool:
            if text in self.printed():
                return True
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.printed()}"
            return False

        wait(seen, seconds, self.printed)

    def end(self, code: int = 0, seconds: float = 240) -> str:
        assert self.process.wait(seconds) == code, self.printed()
        return self.printed()


def study(head: Host, name: str) -> dict[str, Any]:
    """What MLflow on the head knows of a study (probe.py)."""
    done = subprocess.run(head.command("python", "-", name), input=PROBE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_scored_promoted_and_loadable(head: Host, told: dict[str, Any], printed: str) -> None:
    (trial,) = told["trials"]
    assert (told["status"], trial["status"]) == ("FINISHED", "FINISHED")
    assert {"latent_fd", "fvd_short", "fvd_long"} <= {key for key, _, _ in trial["points"]}
    assert f"models:/{told['model']}@champion is now version 1" in printed
    assert "shape (1, 9, 64, 64, 3)" in head.run("python", "-c", LOAD, told["model"]).stdout


def ports(host: Host) -> dict[int, str]:
    """What listens there for others than the host itself, each with its program."""
    found = {}
    for kind in ("-tlnpH", "-ulnpH"):
        enter = ["nsenter", "--target", str(host.first()), "--net", "ss", kind]
        told = subprocess.run(enter, capture_output=True, text=True, check=True).stdout
        for line in told.splitlines():
            place, program = line.split()[3], line.partition('(("')[2].partition('"')[0]
            if "127.0.0." not in place and "[::1]" not in place:
                found[int(place.rpartition(":")[2])] = program
    return found


def codes_in_training(host: Host) -> set[str]:
    """The digests of the packages that the workers training there have in use."""
    found = set()
    for pid in subprocess.run(["ip", "netns", "pids", host.namespace], capture_output=True, text=True).stdout.split():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_text().startswith("ray::RayTrainWorker"):
                (path,) = re.findall(r"PYTHONPATH=([^:\0]+)", Path(f"/proc/{pid}/environ").read_text())
                code = Path(f"/proc/{pid}/root{path}")
                found.add(package_digest(code / "svgan", code / "sweeps"))
    return found
