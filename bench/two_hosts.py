"""What it costs to train on two hosts: steps a second at an equal global batch, and the bytes of each step's exchange.

    sudo python bench/two_hosts.py                        recipe tiny: one worker, two on one host, two on two hosts
    sudo python bench/two_hosts.py --recipe pca --steps 10
    sudo python bench/two_hosts.py --mbit 1000 100        the hosts' network held to so many megabit a second, too

The hosts are those of tests/e2e: namespaces of this machine, joined by a bridge. Each worker has one thread. Laps of
the ways are taken in turn and compared by their medians; the bytes are those that the network card of rank 0's host
counts. Let the machine be idle, and have a core for each worker. Cost: 2 min. What came out: bench/LOG.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).resolve()
PORT = 29_500
CARD = Path("/sys/class/net/eth0/statistics/tx_bytes")


class Timed:
    """A process group whose exchanges are timed; seconds: so far, calls: how many."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.rank, self.world = inner, inner.rank, inner.world
        self.seconds, self.calls, self.bytes = 0.0, 0, 0

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        began = time.perf_counter()
        self.inner.mean_(tensors)
        self.seconds += time.perf_counter() - began
        self.calls += 1
        self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def any(self, flag: bool) -> bool:
        return self.inner.any(flag)

    def greatest(self, numbers: Sequence[float]) -> list[float]:
        return self.inner.greatest(numbers)


def work(recipe: str, steps: int, rank: int, world: int, address: str) -> dict[str, float]:
    """One rank's lap of `steps` iterations after three that are not counted."""
    import svgan.systems  # noqa: F401  (registers them)
    from svgan.torch_utils.distributed import current_process
    from svgan.training import recipes
    from svgan.training.data import Material
    from svgan.training.registry import build_state, iterate, make_source

    torch.set_num_threads(1)
    if world > 1:
        place = f"tcp://{address}:{PORT}"
        torch.distributed.init_process_group("gloo", place, timedelta(seconds=60), rank=rank, world_size=world)
    config, process = recipes.make(recipe), Timed(current_process())
    clips = make_source(config, Material.open(), "cpu")
    state = build_state(config, clips.space)
    for lap, count in enumerate((3, steps)):
        if lap:
            process.any(False)  # all begin together
            process.seconds, process.calls, process.bytes = 0.0, 0, 0
        began, sent = time.perf_counter(), int(CARD.read_text())
        for _ in range(count):
            iterate(state, clips, process)
            state.step += 1
    took = time.perf_counter() - began
    return {
        "steps a second": steps / took,
        "exchange": process.seconds / took,
        "exchanges a step": process.calls / steps,
        "bytes a step": process.bytes / steps,
        "sent a step": (int(CARD.read_text()) - sent) / steps,
    }


def lap(hosts: Sequence[Any], asked: argparse.Namespace) -> dict[str, float]:
    """A lap with a rank on each of the hosts; a host may be there twice. Returns rank 0's figures."""
    ranks = []
    for rank, host in enumerate(hosts):
        card = "lo" if len({one.name for one in hosts}) == 1 else "eth0"
        environment = ("env", "PYTHONPATH=repo", "OMP_NUM_THREADS=1", f"GLOO_SOCKET_IFNAME={card}")
        flags = ("--recipe", asked.recipe, "--steps", str(asked.steps), "--rank", str(rank), str(len(hosts)))
        command = host.command(*environment, "python", "repo/bench.py", *flags, hosts[0].address)
        ranks.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    said = [rank.communicate(timeout=300) for rank in ranks]
    for process, (_, errors) in zip(ranks, said, strict=True):
        if process.returncode:
            sys.exit(errors)
    return json.loads(said[0][0].splitlines()[-1])


def limit(host: Any, mbit: int) -> None:
    """Hold what the host sends to so many megabit a second; 0 lifts it."""
    base = ["ip", "netns", "exec", host.namespace, "tc", "qdisc"]
    subprocess.run([*base, "del", "dev", "eth0", "root"], capture_output=True)
    if mbit:
        rule = ["tbf", "rate", f"{mbit}mbit", "burst", "256kb", "latency", "200ms"]
        subprocess.run([*base, "add", "dev", "eth0", "root", *rule], check=True)


def equipped(host: Any) -> Any:
    """A host with svgan and this file in ~/repo."""
    shutil.copytree(HERE.parents[1] / "svgan", host.home / "repo/svgan")
    shutil.copy(HERE, host.home / "repo/bench.py")
    host.own()
    return host


def measure(asked: argparse.Namespace) -> None:
    sys.path.insert(0, str(HERE.parents[1] / "tests/e2e"))
    import hosts

    if why := hosts.missing():
        sys.exit(f"svgan: {why}")
    with hosts.network() as network:
        one, two = (equipped(network.host(f"host-{n}", f"10.77.2.{n}")) for n in (1, 2))
        ways = {"one worker": ([one], 0), "two workers, one host": ([one, one], 0), "two hosts": ([one, two], 0)}
        ways |= {f"two hosts, {mbit} Mbit/s": ([one, two], mbit) for mbit in asked.mbit}
        laps: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for _ in range(asked.laps):
            for name, (places, mbit) in ways.items():
                for host in (one, two):
                    limit(host, mbit)
                laps[name].append(lap(places, asked))
    alone = statistics.median(one["steps a second"] for one in laps["one worker"])
    print(f"recipe {asked.recipe}, {asked.steps} steps a lap, medians of {asked.laps}\n")
    print("| | steps/s | of one worker | in the exchange | exchanges, bytes a step | sent a step |")
    print("|---|---|---|---|---|---|")
    for name, found in laps.items():
        middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
        lowest, highest = (ends(one["steps a second"] for one in found) for ends in (min, max))
        print(
            f"| {name} | {middle['steps a second']:.2f} ({lowest:.2f} to {highest:.2f}) "
            f"| {middle['steps a second'] / alone:.2f} | {middle['exchange']:.0%} "
            f"| {middle['exchanges a step']:.0f}, {middle['bytes a step'] / 1e6:.3f} MB "
            f"| {middle['sent a step'] / 1e6:.3f} MB |"
        )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--recipe", default="tiny", help="[%(default)s]")
    p.add_argument("--steps", type=int, default=100, metavar="N", help="a lap [%(default)s]")
    p.add_argument("--laps", type=int, default=5, metavar="N", help="[%(default)s]")
    p.add_argument("--mbit", type=int, nargs="*", default=[], metavar="N", help="also with so slow a network")
    p.add_argument("--rank", nargs=3, metavar=("RANK", "WORLD", "ADDRESS"), help=argparse.SUPPRESS)
    asked = p.parse_args()
    if asked.rank:
        rank, world, address = asked.rank
        print(json.dumps(work(asked.recipe, asked.steps, int(rank), int(world), address)))
    else:
        measure(asked)


if __name__ == "__main__":
    main()
