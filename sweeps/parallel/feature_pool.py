"""Figures by many: clips are looked at in pieces, each by whichever worker of a running Ray is free.

A piece is a function of its codes alone. So Ray begins a piece anew whose worker was lost, and as what was seen is put
together in the clips' order, the figures of any number of workers are those of one process in every digit, where their
processors are of one kind.
"""

from __future__ import annotations

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
from sweeps.parallel.encoder_pool import cause_of, domain_here
from sweeps.ray_runtime import resources

if TYPE_CHECKING:
    from svgan.images.domain import Domain

PIECE = 8  # clips, at least; whole batches of the networks, so that these see what one process shows them


class Jury:
    """So many workers of a running Ray, each with a trial's worker's CPUs and GPUs. Raises UserError where there is no
    room for one, and none could come."""

    def __init__(self, domain: Domain, workers: int, cpus: float, gpus: float):
        import ray

        there = resources.room()
        if not there.workers(cpus, gpus):
            gpu = f" and {gpus:g} GPU" if gpus else ""
            raise UserError(
                f"--workers {workers}: each takes {cpus:g} CPU{gpu} as the study's did, for which {there.where} has no "
                "node; leave --workers out"
            )
        self.workers, self.where = workers, (str(Path(domain.folder).resolve()), domain.digest)
        self.device, self.threads = "cuda" if gpus else "cpu", max(1, int(cpus))
        self.piece = max(PIECE, fvd.BATCH[self.device])
        self.task: Any = ray.remote(num_cpus=cpus, num_gpus=gpus)(look_at)

    def of(self, protocol: Protocol) -> Look:
        """Who looks at the clips of a protocol, as `svgan.reports.evaluation.assessed` asks."""
        return partial(self._look, protocol)

    def _look(
        self, protocol: Protocol, kinds: Sequence[Kind], clips: Clips, total: int, stage: str, progress: Progress
    ) -> dict[Kind, np.ndarray]:
        """Codes are made here as pieces are given out; of those no more are under way than there are workers."""
        import ray

        running: dict[Any, tuple[int, int]] = {}
        found: dict[int, dict[Kind, np.ndarray]] = {}
        done = 0

        def wait() -> int:
            (ready,), _ = ray.wait(list(running))
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


def look_at(
    where: tuple[str, str],
    device: str,
    threads: int,
    protocol: Protocol,
    kinds: tuple[Kind, ...],
    clips: np.ndarray,
    first: int,
) -> dict[Kind, np.ndarray]:
    """What networks see in a piece: codes [n, T, L, D], or pictures uint8 [n, T, R, R, 3]; its first clip's number."""
    import torch

    torch.set_num_threads(threads)
    domain = domain_here(*where, device)
    known = {kind: extractor_here(kind, protocol, device) for kind in kinds}
    shown = fvd.shown(domain, protocol, map(np.array, clips))  # Ray's own are not to be written to
    return features.extract(known, shown, len(clips), "", batch=fvd.BATCH[device], first=first)


@cache
def extractor_here(kind: Kind, protocol: Protocol, device: str) -> Extractor:
    return features.extractor(kind, protocol, device)
