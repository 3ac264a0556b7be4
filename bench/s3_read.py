"""How fast W+ shards come from S3 into tensors, against the mere download of the same bytes, and from a node's cache.

    python bench/s3_read.py --megabytes 400           a SeaweedFS of this machine, stopped at the end
    python bench/s3_read.py --gigabits 2              the same behind a link of 2 Gbit/s, as a network would be
    python bench/s3_read.py --uri s3://bucket/bench   the S3 of the environment; the set is left there

Download: every byte range of the same files by as many threads, nothing done with them. Tensors: `open_latents`, with
the digests checked. On one machine server and client share its cores, so this is the hardest case for the reader.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from svgan.io import storage
from svgan.latents import shard_cache
from svgan.latents.manifest import Manifest, VideoCodes, read_manifest
from svgan.latents.shards import THREADS, open_latents, write_latents

LAYERS, WIDTH, SHARD_ROWS = 18, 512, 1024  # of a 1024 px StyleGAN: 19 MB a shard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts")
    parser.add_argument("--gigabits", type=float, help="a second, from the server to here [as fast as it goes]")
    parser.add_argument("--uri", help="[a server of its own]")
    asked = parser.parse_args()
    with server() if asked.uri is None else contextlib.nullcontext(asked.uri) as uri, private_cache():
        import torch  # noqa: F401  (its import is not counted)

        manifest = made(uri, asked.megabytes)
        if asked.gigabits:
            os.environ["AWS_ENDPOINT_URL"] = link(os.environ["AWS_ENDPOINT_URL"], asked.gigabits * 1e9 / 8)
        total = sum(entry["bytes"] for entry in manifest.shards)
        print(f"{len(manifest.shards)} shards, {total / 1e6:.0f} MB, {THREADS} threads, {asked.rounds} rounds")
        ways: dict[str, tuple[float, Callable[[], object]]] = {
            "download alone": (0, lambda: download(uri, manifest)),
            "to tensors": (0, lambda: open_latents(uri)),
            "to tensors, kept on the node": (1000, lambda: first_trial(uri)),
            "second trial of the node": (1000, lambda: open_latents(uri)),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(asked.rounds):
            for name, (gigabytes, way) in ways.items():
                os.environ[shard_cache.VARIABLE] = str(gigabytes)
                began, used = time.perf_counter(), time.process_time()
                way()
                times[name].append((time.perf_counter() - began, time.process_time() - used))
        report(times, total)


def report(times: dict[str, list[tuple[float, float]]], total: int) -> None:
    """Medians; the share of the download's speed is the median of each round's own."""
    print(f"load {os.getloadavg()[0]:.1f}\n\n| | s | MB/s | of the download | CPU s here |\n|---|---|---|---|---|")
    for name, taken in times.items():
        seconds, used = (statistics.median(one) for one in zip(*taken, strict=True))
        share = statistics.median(
            base / own for (base, _), (own, _) in zip(times["download alone"], taken, strict=True)
        )
        print(f"| {name} | {seconds:.3f} | {total / seconds / 1e6:.0f} | {share:.2f} | {used:.2f} |")


def download(uri: str, manifest: Manifest) -> None:
    """Every byte range of the shards, as `storage.read` asks for them."""
    filesystem, root = storage.open_filesystem(uri)

    def one(entry: dict) -> int:
        starts = list(range(0, entry["bytes"], storage.RANGE))
        ends = [min(entry["bytes"], start + storage.RANGE) for start in starts]
        path = storage.join(root, entry["name"])
        return sum(map(len, filesystem.cat_ranges([path] * len(starts), starts, ends, on_error="raise")))

    with ThreadPoolExecutor(THREADS) as pool:
        assert sum(pool.map(one, manifest.shards)) == sum(entry["bytes"] for entry in manifest.shards)


def first_trial(uri: str) -> None:
    shutil.rmtree(shard_cache.folder(), ignore_errors=True)
    open_latents(uri)


def made(uri: str, megabytes: int) -> Manifest:
    """The set, written where it is not there yet."""
    if storage.read(storage.join(uri, "manifest.json")) is None:
        rows = max(SHARD_ROWS, megabytes * 10**6 // (2 * LAYERS * WIDTH))
        codes = np.random.default_rng(0).standard_normal((rows, LAYERS, WIDTH), np.float32)
        write_latents(
            uri, [VideoCodes("a", np.arange(rows), codes)], domain="d", fps=25, shard_rows=SHARD_ROWS, components=1
        )
    return read_manifest(uri)


def link(target: str, rate: float) -> str:
    """The address of a Link to the target, in a process of its own that ends with this one."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    spawn.Process(target=serve, args=(target, rate, there), daemon=True).start()
    return here.recv()


def serve(target: str, rate: float, told: Connection) -> None:
    made = Link(target, rate)
    told.send(made.address)
    made.run()


class Link:
    """A TCP proxy that lets so many bytes a second through, of all connections together, from the server to here."""

    def __init__(self, target: str, rate: float) -> None:
        host, _, port = target.removeprefix("http://").rpartition(":")
        self.target, self.rate = (host, int(port)), rate
        self.lock, self.free_at = threading.Lock(), 0.0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.target)
            for source, sink, limited in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, limited), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, limited: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                if limited:
                    with self.lock:
                        self.free_at = max(self.free_at, time.monotonic()) + len(data) / self.rate
                        wait = self.free_at - time.monotonic()
                    time.sleep(max(0.0, wait))
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def server() -> Iterator[str]:
    from s3_server import BUCKET, running

    with running(lambda: Path(tempfile.mkdtemp(prefix="svgan-bench-")), volumes=32) as environment:
        os.environ.update(environment)
        yield f"s3://{BUCKET}/bench"


@contextlib.contextmanager
def private_cache() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="svgan-bench-") as folder:
        os.environ["SVGAN_CACHE"] = folder
        yield


if __name__ == "__main__":
    main()
