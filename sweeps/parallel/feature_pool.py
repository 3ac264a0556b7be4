"""A pool of Ray tasks that extracts features of clips for FVD and other metrics.

Clips are split into pieces, and each piece goes to the next free worker. A piece depends on its codes alone, so Ray can
repeat a piece whose worker was lost. Features are joined in the order of the clips. Any number of workers therefore
gives the figures of one process in every digit, if their processors are of one kind.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from svgan.errors import UserError
from svgan.metrics import features, fvd
from svgan.metrics.features import Extractor, Kind, Look
from svgan.metrics.fvd import Clips, Progress
from svgan.metrics.protocol import Protocol
from sweeps.parallel.remote_tasks import cause_of, domain_here
from sweeps.ray_runtime import resources

if TYPE_CHECKING:
    from svgan.images.domain import Domain

SAY_SECONDS = 300.0  # a piece takes seconds on a GPU, minutes on a CPU; a cloud starts a node in some minutes
PIECE = 8  # clips at least; a multiple of the networks' batch, so that batches are those of one process


class FeaturePool:
    """Workers of a running Ray, each with the CPUs and GPUs of a trial's worker.

    Raises UserError if the cluster has no room for one worker and cannot add a node.
    """

    def __init__(self, domain: Domain, workers: int, cpus: float, gpus: float):
        import ray

        there = resources.detect()
        if not there.workers(cpus, gpus):
            gpu = f" and {gpus:g} GPU" if gpus else ""
            raise UserError(
                f"--workers {workers}: each takes {cpus:g} CPU{gpu} as the study's did, for which {there.where} has no "
                "node; leave --workers out"
            )
        self.workers, self.where = workers, (str(Path(domain.folder).resolve()), domain.digest)
        self.device, self.threads = "cuda" if gpus else "cpu", max(1, int(cpus))
        self.piece = max(PIECE, fvd.BATCH[self.device])
        self.task: Any = ray.remote(num_cpus=cpus, num_gpus=gpus)(extract)

    def _next(self, running: list[Any]) -> Any:
        """The next finished piece. Prints what is waited for if none comes for SAY_SECONDS, and raises UserError after
        NODE_SECONDS.
        """
        import ray

        for waited in itertools.count(1):
            ready, _ = ray.wait(running, timeout=SAY_SECONDS)
            if ready:
                return ready[0]
            free = f"{ray.available_resources().get('CPU', 0):g} CPUs are free"
            if waited == 1:
                print(f"still waiting for the features of {self.piece} clips: {free}", flush=True)
            if waited * SAY_SECONDS > resources.NODE_SECONDS:
                raise UserError(f"no features came for {resources.NODE_SECONDS / 3600:.0f} h ({free}); see Ray's logs")

    def extractor(self, protocol: Protocol) -> Look:
        """The function that extracts the features of clips by this protocol."""
        return partial(self._extract, protocol)

    def _extract(
        self, protocol: Protocol, kinds: Sequence[Kind], clips: Clips, total: int, stage: str, progress: Progress
    ) -> dict[Kind, np.ndarray]:
        """Sample codes here, and send them out in pieces, at most one per worker at a time."""
        import ray

        running: dict[Any, tuple[int, int]] = {}
        found: dict[int, dict[Kind, np.ndarray]] = {}
        done = 0

        def wait() -> int:
            ready = self._next(list(running))
            first, count = running.pop(ready)
            try:
                found[first] = ray.get(ready)
            except ray.exceptions.RayError as error:
                raise cause_of(error) from None
            return count

        try:
            for number, piece in enumerate(fvd.batches((np.asarray(clip) for clip in clips), self.piece)):
                first = number * self.piece
                asked = (self.where, self.device, self.threads, protocol, tuple(kinds), np.stack(piece), first)
                running[self.task.remote(*asked)] = (first, len(piece))
                if len(running) == self.workers:
                    done += wait()
                    progress(stage, done, total)
            while running:
                done += wait()
                progress(stage, done, total)
        finally:
            for ref in running:
                ray.cancel(ref, force=False)
        in_order = [found[first] for first in sorted(found)]
        return {kind: np.concatenate([part[kind] for part in in_order if kind in part]) for kind in kinds}


def extract(
    where: tuple[str, str],
    device: str,
    threads: int,
    protocol: Protocol,
    kinds: tuple[Kind, ...],
    clips: np.ndarray,
    first: int,
) -> dict[Kind, np.ndarray]:
    """Extract the features of one piece.

    clips: codes [n, T, L, D] or pictures uint8 [n, T, R, R, 3]; first: the number of the first clip.
    """
    import torch

    torch.set_num_threads(threads)
    domain = domain_here(*where, device)
    known = {kind: extractor_here(kind, protocol, device) for kind in kinds}
    shown = fvd.render_clips(domain, protocol, map(np.array, clips))  # Ray's own are not to be written to
    return features.extract(known, shown, len(clips), "", batch=fvd.BATCH[device], first=first)


@cache
def extractor_here(kind: Kind, protocol: Protocol, device: str) -> Extractor:
    return features.extractor(kind, protocol, device)
