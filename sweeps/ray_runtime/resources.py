"""The resources for trials: this machine's before Ray starts, or those of the nodes of a joined cluster.

A cluster counts with the nodes that its autoscaler could add. Ray knows them on hosted clusters only. After `ray up`
they stand in the file that the launcher left on the head, where a driver runs (docs/traps.md).
"""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from svgan.errors import UserError
from sweeps.ray_runtime import internals
from sweeps.storage.plan import Plan

if TYPE_CHECKING:
    import torch

SLOT, HERE, CLUSTER = "trial_slot", "this machine", "the cluster"
HEAD = "node:__internal_head__"
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
# GB (bench/LOG.md): Ray's own processes with the driver (1.44 measured); a trial beside its workers (0.23 measured,
# 0.37 with several workers, 0.03 more for S3, and half as much again); a worker (0.36, before it renders and scores).
BASE_GB, TRIAL_GB, WORKER_GB = 2.0, 0.6, 1.0
# On a cluster one may wait for a node as long as a cloud's daily peak or a shortage of spot machines lasts. Waiting
# costs no GPU-hours; a wait of more than a day has a cause that a person must mend, such as a quota.
NODE_SECONDS = 86400.0
CONNECT_SECONDS = 2.0  # to a Ray that `ray start` may have left on this host; a port of one's own host answers at once

Node = Mapping[str, float]


@dataclass(frozen=True)
class Resources:
    """nodes: CPU, GPU and other resources of each node; coming: of those that an autoscaler could add.

    slots: how many trial drivers may run, None if the study starts Ray itself. gb: free memory where they run, None if
    unknown. growth: how `coming` is known, for the announcement of the plan.
    """

    where: str
    nodes: tuple[Node, ...]
    coming: tuple[Node, ...] = ()
    slots: float | None = None
    gb: float | None = None
    growth: str = ""

    @property
    def local(self) -> bool:
        return self.where == HERE

    def total(self, kind: str) -> float:
        return sum(node.get(kind, 0) for node in (*self.nodes, *self.coming))

    def workers(self, cpus: float, gpus: float, *, now: bool = False) -> int:
        """The number of workers that fit, each whole on one node. now: leave out what an autoscaler could add."""
        nodes = self.nodes if now else (*self.nodes, *self.coming)
        return sum(_fitting(node, cpus, gpus) for node in nodes)

    def trial_gb(self, workers: int) -> float:
        """Memory of a trial where its driver runs. On one machine, that includes its workers."""
        return TRIAL_GB + (WORKER_GB * workers if self.local else 0)

    @property
    def base_gb(self) -> float:
        """Memory needed before the first trial. On a joined head, Ray runs already."""
        return BASE_GB if self.local else 0.5


def _fitting(node: Node, cpus: float, gpus: float) -> int:
    # A worker needs all its CPUs and GPUs on one node, so the scarcer kind decides.
    each = [node.get("CPU", 0) // cpus] if cpus else []
    if gpus:
        each.append(int(node.get("GPU", 0)) * per_gpu(gpus) if gpus < 1 else node.get("GPU", 0) // gpus)
    return int(min(each))


def per_gpu(share: float) -> int:
    """How many workers with such a share of a GPU Ray puts on one GPU. It never splits a share between two."""
    return int(1 / share + 1e-9)


def detect() -> Resources:
    """The joined cluster's resources, else this machine's."""
    return cluster() if joined() else machine()


def joined() -> bool:
    """Whether this process is connected to Ray. Does not import Ray."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def machine() -> Resources:
    """This machine's resources: the CPUs that this process may use, its GPUs, its free memory."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Resources(HERE, ({"CPU": cpus, "GPU": torch.cuda.device_count()},), gb=free_gb())


def cluster() -> Resources:
    """The running cluster, from its head."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    head = next((node for node in nodes if HEAD in node["Resources"]), None)
    gb = None
    if head is not None:
        on_head = head["NodeID"] == ray.get_runtime_context().get_node_id()
        gb = free_gb() if on_head else head["Resources"].get("memory", math.inf) / 2**30
    coming, growth = could_come([node["Resources"] for node in nodes])
    resources = tuple(node["Resources"] for node in nodes)
    return Resources(CLUSTER, resources, coming, sum(node.get(SLOT, 0) for node in resources), gb, growth)


def cluster_address() -> str | None:
    """The cluster to join: RAY_ADDRESS, else one that `ray start` left running on this host; None for a local Ray."""
    if asked := os.environ.get("RAY_ADDRESS"):
        return None if asked == "local" else asked
    import socket

    file = ray_folder() / "ray_current_cluster"  # as the documentation of `ray.init` says
    left = file.read_text().strip() if file.exists() else ""
    if not left:
        return None
    host, _, port = left.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError:
        return None
    return left


def ray_folder() -> Path:
    """Where Ray keeps its sessions on this host, unless `ray start` was given another --temp-dir."""
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform.startswith("linux") else ("RAY_TMPDIR",)
    return Path(next((os.environ[name] for name in names if name in os.environ), "/tmp"), "ray")


def could_come(there: list[dict[str, float]]) -> tuple[tuple[Node, ...], str]:
    """The nodes that an autoscaler could add, and how that is known."""
    # What Ray itself knows, on hosted clusters.
    if groups := internals.node_groups():
        return _missing(groups, there, math.inf), "node groups that the cluster's autoscaler reports"
    # Else the file that `ray up` left on the head.
    try:
        launched = bootstrap()
        if launched is None:
            return (), f"no node types to be read here ({BOOTSTRAP} is missing), so only nodes that are there count"
        types = launched["available_node_types"]
        head = launched.get("head_node_type")
        most = int(launched.get("max_workers", 0))
        groups = [
            internals.NodeGroup(name, dict(kind.get("resources") or {}), int(kind.get("max_workers", most)))
            for name, kind in types.items()
            if name != head
        ]
        return _missing(groups, there, most), f"node types of {BOOTSTRAP}"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return (), f"{BOOTSTRAP} cannot be read ({type(error).__name__}), so only nodes that are there count"


def bootstrap() -> dict[str, Any] | None:
    """The yaml as `ray up` left it on the head, None if there is none. Raises ValueError if it is not YAML."""
    import yaml

    path = BOOTSTRAP.expanduser()
    try:
        return yaml.safe_load(path.read_text()) if path.is_file() else None
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(str(error)) from error


def _missing(groups: list[internals.NodeGroup], there: list[dict[str, float]], most: float) -> tuple[Node, ...]:
    """Up to `most` nodes of the groups in all, less those that have joined. A group's -1 means any number."""
    # Nodes left under the cluster's limit; then each group's, less the nodes that look like its own.
    workers = [node for node in there if HEAD not in node]
    left = int(max(0, min(most - len(workers), 1000)))
    missing: list[Node] = []
    for _, resources, count in groups:
        node = {kind: float(value) for kind, value in resources.items()}
        present = sum(all(w.get(kind, 0) == node.get(kind, 0) for kind in ("CPU", "GPU")) for w in workers)
        more = left if count < 0 else max(0, count - present)
        missing += [node] * min(more, left - len(missing))
    return tuple(missing)


def free_gb() -> float:
    """Free memory, within the container's limit."""
    free = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, int(text) - int(used.read_text()))
    return free / 2**30


def gpu_share(there: Resources, workers: int, concurrency: int | None) -> float:
    """GPUs per worker by default: a whole one, or a share if more trials of one worker are asked for than there are
    GPUs. Several workers of a trial need a GPU each (`check_ranks_apart`).
    """
    gpus, wanted = there.total("GPU"), concurrency or 1
    if not gpus:
        return 0.0
    if workers > 1 or wanted <= gpus:
        return 1.0
    return max(0.01, int(100 / math.ceil(wanted / gpus)) / 100)


def fitting_concurrency(there: Resources, *, workers: int, cpus: float, gpus: float, trials: int) -> int:
    """How many trials can run at once without waiting for each other's CPUs, GPUs or memory; at least 1."""
    # By whole workers on nodes, by trial slots on the head, and by memory where the trials' drivers run.
    counts = [there.workers(cpus, gpus) // workers, trials]
    if there.slots is not None:
        counts.append(int(there.slots))
    if there.gb is not None:
        counts.append(int((there.gb - there.base_gb) // there.trial_gb(workers)))
    return max(1, min(counts))


def check_resources(plan: Plan, there: Resources) -> None:
    """Raises UserError for workers that could never be placed. Ray itself would wait for ever without a message."""
    cpus, gpus, workers = plan.compute.cpus_per_worker, plan.compute.gpus_per_worker, plan.compute.workers
    check_ranks_apart(workers, gpus, there)
    also = " with all nodes its autoscaler may add" if there.coming else ""
    # In all: one trial, then as many as run at a time.
    for kind, each, flag in (("CPU", cpus, "--workers"), ("GPU", gpus, "--gpus-per-worker")):
        trial, has = workers * each, there.total(kind)
        if trial > has:
            raise UserError(
                f"{flag}: a trial asks {workers} x {each:g} = {trial:g} {kind}, {there.where} has {has:g}{also}; "
                "ask for less"
            )
        if trial * plan.compute.concurrency > has:
            raise UserError(
                f"--concurrency {plan.compute.concurrency}: so many trials ask {trial * plan.compute.concurrency:g} "
                f"{kind}, {there.where} has {has:g}{also}; at most {int(has // trial)} fit at a time"
            )
    # Node by node: each worker whole on one node.
    fits = there.workers(cpus, gpus)
    if fits < workers * plan.compute.concurrency:
        flag = f"--concurrency {plan.compute.concurrency}" if fits >= workers else f"--workers {workers}"
        gpu = f" and {gpus:g} GPU" if gpus else ""
        raise UserError(
            f"{flag}: {workers * plan.compute.concurrency} workers of {cpus:g} CPU{gpu} are asked, each whole on one "
            f"node; {there.where} has places for {fits}{also}; ask for fewer or smaller ones"
        )
    # On the head: a slot per trial driver.
    if there.slots is not None and there.slots < plan.compute.concurrency:
        raise UserError(
            f"--concurrency {plan.compute.concurrency}: {there.where} offers {there.slots:g} {SLOT}; lower it, or "
            f"start the head with --resources '{{\"{SLOT}\": {plan.compute.concurrency}}}'"
        )


def check_ranks_apart(workers: int, gpus: float, there: Resources) -> None:
    """Raises UserError if two workers of a trial could get the same GPU: NCCL refuses two ranks on one device.

    gloo would take them, but two ranks that take turns on one GPU are slower than one and keep two copies of the model.
    """
    if workers < 2 or not gpus:
        return
    remedy = "; give --workers 1, or --gpus-per-worker 0 to train on CPUs"
    if gpus < 1 and per_gpu(gpus) > 1:
        raise UserError(
            f"--gpus-per-worker {gpus:g}: two of a trial's {workers} workers could get the same GPU, which NCCL refuses"
            f"{remedy}, or --gpus-per-worker 1"
        )
    if workers > there.total("GPU"):
        raise UserError(
            f"--workers {workers}: each needs a GPU of its own, as NCCL refuses two ranks on one; {there.where} has "
            f"{there.total('GPU'):g}{remedy}"
        )


def check_memory(plan: Plan, there: Resources) -> None:
    """Raises UserError if memory cannot hold the trials. A single trial is allowed down to 0.6 of its need."""
    if there.gb is None:
        return
    place = "" if there.local else "the head has "
    one = there.base_gb + there.trial_gb(plan.compute.workers)
    if there.gb < 0.6 * one:
        raise UserError(
            f"memory: {place}{there.gb:.1f} GB free, one trial needs about {one:.1f}; close something first"
        )
    need = there.base_gb + there.trial_gb(plan.compute.workers) * plan.compute.concurrency
    if plan.compute.concurrency > 1 and there.gb < need:
        fits = fitting_concurrency(
            there,
            workers=plan.compute.workers,
            cpus=plan.compute.cpus_per_worker,
            gpus=plan.compute.gpus_per_worker,
            trials=plan.compute.concurrency,
        )
        raise UserError(
            f"--concurrency {plan.compute.concurrency}: so many trials need about {need:.1f} GB, {place}{there.gb:.1f} "
            f"GB free; at most {fits} at a time"
        )


def device_name(device: torch.device | str) -> str:
    """The device to which a trial's speed belongs: 'cuda NVIDIA L4', 'cpu Intel(R) Xeon(R) ...'."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return f"cuda {torch.cuda.get_device_name()}"
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{kind} {named[0] if named else platform.processor() or platform.machine()}"
