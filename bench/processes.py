"""What a sweep's processes use, by kind: CPU seconds and proportional memory (PSS) of this process and all under it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import psutil


def kind(process: psutil.Process) -> str:
    """'driver', 'raylet', 'gcs_server', 'dashboard', or the class of a Ray actor."""
    line = process.cmdline()
    if not line:
        return process.name()
    if line[0].startswith("ray::"):
        return line[0].removeprefix("ray::").split(".")[0].split()[0]
    for name in ("gcs_server", "raylet", "dashboard/agent", "runtime_env/agent", "dashboard", "monitor", "log_monitor"):
        if any(name in part for part in line[:4]):
            return name
    return "driver" if process.pid == psutil.Process().pid else Path(line[0]).name


class Watch(threading.Thread):
    """Looks at the processes every `every` seconds; with `memory` also at their PSS, which costs some CPU itself.

    more: processes beside this one, as a Ray that it joined, that count with all under them.
    """

    def __init__(self, every: float = 0.2, memory: bool = False, more: Sequence[int] = ()) -> None:
        super().__init__(daemon=True)
        self.every, self.memory, self.more = every, memory, more
        self.cpu: dict[int, float] = {}
        self.kinds: dict[int, str] = {}
        self.peaks: list[tuple[int, dict[str, list[float]]]] = []
        self.ended = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.join()

    def run(self) -> None:
        roots = [psutil.Process(), *map(psutil.Process, self.more)]
        while not self.ended.wait(self.every):
            pss: dict[str, list[float]] = defaultdict(list)
            for process in {one for root in roots for one in (root, *root.children(recursive=True))}:
                try:
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
                    self.kinds[process.pid] = kind(process)
                    if self.memory:
                        pss[self.kinds[process.pid]].append(_pss(process.pid))
                except (psutil.NoSuchProcess, psutil.ZombieProcess, OSError):
                    continue
            if self.memory:
                self.peaks.append((len(pss.get("RayTrainWorker", [])), dict(pss)))

    def cpu_by_kind(self) -> dict[str, tuple[float, int]]:
        """CPU seconds and how many processes there were, most first."""
        found: dict[str, tuple[float, int]] = {}
        for pid, seconds in self.cpu.items():
            total, count = found.get(self.kinds[pid], (0.0, 0))
            found[self.kinds[pid]] = (total + seconds, count + 1)
        return dict(sorted(found.items(), key=lambda item: -item[1][0]))

    def memory_by_kind(self, workers: int) -> dict[str, tuple[float, float]]:
        """Median number and MB of each kind over the looks at which so many training workers were alive."""
        looks = [pss for alive, pss in self.peaks if alive == workers]
        found = {}
        for name in sorted({name for pss in looks for name in pss}):
            totals = sorted(sum(pss.get(name, [0.0])) for pss in looks)
            counts = sorted(len(pss.get(name, [])) for pss in looks)
            found[name] = (float(counts[len(counts) // 2]), totals[len(totals) // 2])
        return found


def _pss(pid: int) -> float:
    """MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def load() -> str:
    """The machine's load average over the last minute, and when."""
    return f"load {psutil.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d %H:%M')}"
