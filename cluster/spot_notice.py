"""Drain this node from Ray when AWS announces that it takes the spot machine away, two minutes before:

    python ~/svgan-repo/cluster/spot_notice.py start --address 10.0.0.1:6379

`start` leaves a process behind that asks the machine's metadata every five seconds, as AWS advises, and ends at once on
a machine that is no spot one. Ray's drain reaches the trials' workers as a notice (`sweeps.ray_runtime.notice`): they
keep their state and go on elsewhere. Run again, it does nothing while the first process lives.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import psutil

METADATA = "http://169.254.169.254"
TOKEN, KIND, ACTION = "api/token", "meta-data/instance-life-cycle", "meta-data/spot/instance-action"
ASK_SECONDS = 5.0  # between two questions, as AWS advises
ANSWER_SECONDS = 2.0  # for an answer, which comes from the machine's own host
log = logging.getLogger("spot_notice")


def ask(metadata: str, path: str) -> str | None:
    """What the machine's metadata service (IMDSv2) says; None where it has nothing there or does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        put = urllib.request.Request(f"{metadata}/latest/{TOKEN}", method="PUT", headers=ttl)
        with opener.open(put, timeout=ANSWER_SECONDS) as answer:
            token = answer.read().decode()
        get = urllib.request.Request(f"{metadata}/latest/{path}", headers={"X-aws-ec2-metadata-token": token})
        with opener.open(get, timeout=ANSWER_SECONDS) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code != 404:
            say(f"{path}: {error}")
    except OSError as error:
        say(f"{path}: {error}")
    return None


@functools.cache
def say(text: str) -> None:
    """Log a line, once."""
    log.warning(text)


def seconds_left(notice: str, now: datetime) -> int:
    """Seconds until AWS does what the notice says, at least 1. Raises ValueError for what is no notice."""
    try:
        at = datetime.fromisoformat(json.loads(notice)["time"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no notice of AWS's: {notice[:200]}") from error
    return max(1, int((at - now).total_seconds()))


def nodes_here(address: str) -> list[str]:
    """The ids of this machine's nodes of the cluster, its head left out: the arguments of their raylets."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline() if process.name() == "raylet" else []
            if any(f"--gcs-address={address}" in part for part in command) and "--head" not in command:
                found += [part.partition("=")[2] for part in command if part.startswith("--node_id=")]
    return found


def drain(address: str, node: str, seconds: int) -> bool:
    """Tell Ray that the node will be gone; whether Ray took it."""
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--address", address, "--node-id", node]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "AWS takes this spot machine away"]
    done = subprocess.run([*command, "--deadline-remaining-seconds", str(seconds)], capture_output=True, text=True)
    log.warning("drain of %s within %d s: %s", node, seconds, "taken" if not done.returncode else done.stderr[-500:])
    return not done.returncode


def watch(metadata: str, address: str, every: float) -> None:
    """Ask until there is a notice, and drain this machine's nodes."""
    if (kind := ask(metadata, KIND)) not in (None, "spot"):
        log.warning("not watched: this machine is %s", kind)
        return
    while True:
        if notice := ask(metadata, ACTION):
            try:
                left = seconds_left(notice, datetime.now(UTC))
                nodes = nodes_here(address)
                if nodes and all([drain(address, node, left) for node in nodes]):
                    return
            except ValueError as error:
                say(str(error))
        time.sleep(every)


def main() -> None:
    parser = argparse.ArgumentParser(prog="spot_notice.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=("start", "watch"))
    parser.add_argument("--address", required=True, metavar="HOST:PORT", help="of the cluster's head")
    parser.add_argument("--metadata", default=METADATA, metavar="URL", help="[%(default)s]")
    parser.add_argument("--every", type=float, default=ASK_SECONDS, metavar="S", help="[%(default)s]")
    asked = parser.parse_args()
    place = Path(tempfile.gettempdir(), f"svgan-spot-notice-{os.getuid()}-{asked.address.replace(':', '-')}")
    if asked.command == "start":
        with place.with_suffix(".log").open("a") as out:
            subprocess.Popen(
                [sys.executable, __file__, "watch", *sys.argv[2:]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return
    logging.basicConfig(format="%(asctime)s %(message)s")
    with place.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process watches already
        watch(asked.metadata, asked.address, asked.every)


if __name__ == "__main__":
    main()
