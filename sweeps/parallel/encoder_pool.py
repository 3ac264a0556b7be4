"""A pool of Ray tasks on CPUs and Ray actors on GPUs that scans and encodes the stretches of `embedding`.

The pool asks Ray for as many tasks as the nodes of the cluster, and those that its autoscaler could add, would work on:
pending tasks are what makes an autoscaler add nodes. It also asks for one actor per GPU. Each actor takes part as soon
as it has started, and the pool replaces an actor that is lost.

If the cluster has a GPU, or could add one, codes wait for the first GPU, at most GPU_SECONDS seconds. After that, CPUs
make codes until a GPU comes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svgan.errors import UserError, one_line
from svgan.faces.original_frames import encoder_crop
from svgan.faces.tracking import Track
from svgan.images.domain import Domain
from svgan.io import storage
from svgan.io.video_reader import Survey
from svgan.pipelines import embed as embed_steps
from sweeps.parallel.remote_tasks import Encoder, cause_of, code_stretch, cut_stretch, scan_stretch
from sweeps.ray_runtime import resources

PER_CPU = 2  # stretches at once on each CPU
PER_ENCODER = 4  # waiting stretches for which the pool asks for one more GPU
GPU_SECONDS = 900.0  # that codes wait for a GPU; a cloud needs minutes to start a machine, and as long to install it
LOOK_SECONDS = 2.0  # between two looks at the cluster
LOSSES = 3  # workers that may be lost over one stretch before it fails


@dataclass(kw_only=True)
class Video:
    """A video: its file and survey, its track once it is scanned, and the finished stretches of each step."""

    path: Path
    digest: str
    found: Survey
    place: str
    track: Track | None = None
    done: dict[str, set[int]] = field(default_factory=lambda: {"faces": set(), "codes": set()})

    def file(self, step: str, number: int, domain: Domain) -> str:
        name = f"faces-{number:05d}.npz" if step == "faces" else embed_steps.codes_name(domain, number)
        return storage.join(self.place, name)


@dataclass(kw_only=True, eq=False)
class GPUEncoder:
    """An actor on a GPU. loading: its start, None once it is ready; busy: its stretches; node: the id of its node."""

    actor: Any
    loading: Any
    busy: int = 0
    node: str = ""


@dataclass(kw_only=True, eq=False)
class Stretch:
    """One step ('faces' or 'codes') of a stretch. crops, encoder: set while a GPU makes its codes."""

    video: Video
    step: str
    number: int
    losses: int = 0
    crops: Any = None
    encoder: GPUEncoder | None = None


class WorkerLost(Exception):
    """A worker was lost during a stretch. Start the stretch again."""


class EncoderPool:
    """Tasks and actors of a running Ray. Raises UserError if the cluster has no CPU and cannot add one."""

    def __init__(self, domain: Domain):
        import ray

        self.domain, self.folder = domain, str(Path(domain.folder).resolve())
        self.running: dict[Any, Stretch] = {}
        self.encoders: list[GPUEncoder] = []
        self._scan: Any = ray.remote(num_cpus=1, max_retries=0)(scan_stretch)
        self._codes: Any = ray.remote(num_cpus=1, max_retries=0)(code_stretch)
        self._cut: Any = ray.remote(num_cpus=1, max_retries=0, num_returns=2)(cut_stretch)
        self._encoder: Any = ray.remote(num_cpus=0, num_gpus=1, max_restarts=0, max_task_retries=0)(Encoder)
        self._tracks: dict[str, Any] = {}
        self._said: set[str] = set()
        self.cluster, self.updated = resources.detect(), time.monotonic()
        self.waiting_since: float | None = None  # for a GPU; None while no codes wait
        if self.cluster.total("CPU") < 1:
            raise UserError(
                f"{self.cluster.where} has no CPU to work on ({self.cluster.growth}); start a node with some"
            )

    @property
    def cpus(self) -> int:
        """CPUs of the nodes that have joined."""
        return int(sum(node.get("CPU", 0) for node in self.cluster.nodes))

    @property
    def gpus(self) -> int:
        """GPUs of the nodes that have joined or that the autoscaler could add."""
        return self.cluster.workers(0, 1)

    @property
    def ready(self) -> list[GPUEncoder]:
        return [encoder for encoder in self.encoders if not encoder.loading]

    @property
    def patience_is_over(self) -> bool:
        return self.waiting_since is not None and time.monotonic() - self.waiting_since > GPU_SECONDS

    def update(self, codes: int) -> None:
        """Read the cluster's state and adjust the number of GPU encoders. codes: stretches waiting for codes."""
        now = time.monotonic()
        # The cluster, as it is now.
        if now - self.updated > LOOK_SECONDS:
            self.updated, self.cluster = now, resources.detect()
            self._forget_lost_nodes()
            if not self.cpus:
                self._say("waiting for a node: none has a CPU now; it goes on when one joins")
        # One encoder per PER_ENCODER stretches; encoders that have not started and are not needed are removed.
        under_way = sum(stretch.step == "codes" for stretch in self.running.values())
        wanted = encoders_wanted(self.gpus, codes + under_way)
        for encoder in [encoder for encoder in self.encoders[wanted:] if encoder.loading]:
            self._remove(encoder)
        while len(self.encoders) < wanted:
            actor = self._encoder.remote(self.folder, self.domain.digest)
            self.encoders.append(GPUEncoder(actor=actor, loading=actor.load.remote()))
        # The clock of codes that wait for a GPU, and what the user is told of it.
        if self.ready or not self.gpus:
            self.waiting_since = None
        elif codes and self.waiting_since is None:
            self.waiting_since = now
        if self.patience_is_over:
            self._say(
                f"no GPU for {GPU_SECONDS / 60:.0f} min: CPUs make the codes until one comes; theirs may differ from "
                "a GPU's in the last bit"
            )
        elif self.waiting_since is not None and not any(node.get("GPU") for node in self.cluster.nodes):
            self._say(f"waiting for a GPU, {GPU_SECONDS / 60:.0f} min at most; then CPUs make the codes")

    def has_room_for(self, step: str) -> bool:
        """Whether one more stretch may start this step.

        Crops stay in memory until they are encoded, so the pool cuts few more than its CPUs and encoders can use.
        """
        if len(self.running) >= most_stretches_at_once(self.cluster):
            return False
        if step == "faces" or not self.gpus:
            return True
        if ready := self.ready:
            cut = sum(stretch.crops is not None or stretch.encoder is not None for stretch in self.running.values())
            return cut < self.cpus + 2 * len(ready)
        return self.patience_is_over

    def start(self, stretch: Stretch) -> None:
        """Start one step of a stretch. Call `has_room_for` first."""
        import ray

        video, chunk = stretch.video, stretch.video.found.chunks()[stretch.number]
        path, file = str(video.path), video.file(stretch.step, stretch.number, self.domain)
        if stretch.step == "faces":
            self.running[self._scan.remote(path, chunk, file)] = stretch
            return
        if video.digest not in self._tracks:
            self._tracks[video.digest] = ray.put(video.track)
        assert video.track is not None
        rows, size, track = video.track.rows(*chunk), encoder_crop(self.domain), self._tracks[video.digest]
        if self.gpus and self.ready:
            stretch.crops, people = self._cut.remote(path, track, rows, size)
            self.running[people] = stretch
        else:
            codes = self._codes.remote(path, track, rows, size, self.folder, self.domain.digest, file)
            self.running[codes] = stretch

    def wait(self) -> tuple[Stretch, UserError | WorkerLost | None] | None:
        """Wait for the next finished stretch; return it with its error, or with None if it succeeded.

        Returns None after LOOK_SECONDS seconds, when an encoder has started, and when crops went to an encoder. Raises
        UserError if workers were lost over one stretch more than LOSSES times, or if a node has another domain.
        """
        import ray

        loading = {encoder.loading: encoder for encoder in self.encoders if encoder.loading}
        if not self.running and not loading:
            return None
        found, _ = ray.wait([*self.running, *loading], timeout=LOOK_SECONDS, fetch_local=False)
        if not found:
            return None
        if found[0] in loading:
            self._loaded(loading[found[0]])
            return None
        stretch = self.running.pop(found[0])
        crops, encoder, stretch.crops, stretch.encoder = stretch.crops, stretch.encoder, None, None
        if encoder:
            encoder.busy -= 1
        try:
            people = ray.get(found[0])
        except ray.exceptions.RayError as error:
            return stretch, self._why(stretch, encoder, error)
        if crops is None:
            return stretch, None
        if not (ready := self.ready):
            return stretch, WorkerLost()
        stretch.encoder = min(ready, key=lambda encoder: encoder.busy)
        stretch.encoder.busy += 1
        file = stretch.video.file("codes", stretch.number, self.domain)
        self.running[stretch.encoder.actor.encode.remote(crops, people, file)] = stretch
        return None

    def close(self) -> None:
        import ray

        for ref in self.running:
            ray.cancel(ref, force=False)
        for encoder in list(self.encoders):
            self._remove(encoder)

    def _remove(self, encoder: GPUEncoder) -> None:
        import ray

        if encoder in self.encoders:
            self.encoders.remove(encoder)
            ray.kill(encoder.actor)

    def _loaded(self, encoder: GPUEncoder) -> None:
        """Mark an encoder as ready, or remove it if it was lost while it started."""
        import ray

        try:
            encoder.node, encoder.loading = ray.get(encoder.loading), None
        except ray.exceptions.RayError as error:
            cause = cause_of(error)
            if isinstance(cause, UserError):
                raise cause from None
            if not isinstance(cause, ray.exceptions.RayError):
                raise
            self._remove(encoder)

    def _forget_lost_nodes(self) -> None:
        """Remove idle encoders whose node was lost, so that no stretch is sent to them."""
        import ray

        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        for encoder in self.ready:
            if encoder.node not in alive:
                self._remove(encoder)

    def _why(self, stretch: Stretch, encoder: GPUEncoder | None, error: Exception) -> UserError | WorkerLost:
        import ray

        cause = cause_of(error)
        if isinstance(cause, UserError):
            return cause
        if not isinstance(cause, ray.exceptions.RayError):
            raise error
        if encoder and isinstance(cause, ray.exceptions.RayActorError):
            self._remove(encoder)
        stretch.losses += 1
        if stretch.losses > LOSSES:
            why = one_line(error, 200)
            raise UserError(
                f"{stretch.video.path}: a worker was lost again and again ({why}); see Ray's logs"
            ) from error
        return WorkerLost()

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print(text, flush=True)


def most_stretches_at_once(cluster: resources.Resources) -> int:
    return PER_CPU * max(1, int(cluster.total("CPU")))


def encoders_wanted(gpus: int, stretches: int) -> int:
    """How many GPU encoders to ask for."""
    return min(gpus, math.ceil(stretches / PER_ENCODER))
