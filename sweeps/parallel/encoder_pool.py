"""Who does the stretches of `sweeps.parallel.embedding`: tasks on a running Ray's CPUs, and an actor on each GPU.

Ray is asked for as many tasks as the nodes that there are and those that an autoscaler could add would work on; what
has no place yet is what makes an autoscaler bring nodes. An actor is asked for per GPU, too: each takes part as soon as
it is there, whatever the others do, and one that was lost is asked for anew. Codes wait for the first GPU where there
is one or one could come, yet no longer than GPU_PATIENCE; then CPUs make them until a GPU comes.
"""

from __future__ import annotations

import io
import math
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from svgan.errors import UserError, one_line
from svgan.faces.aligned_video import face_finder
from svgan.faces.original_frames import encoder_crop
from svgan.faces.tracking import Track, scan
from svgan.images.domain import Domain
from svgan.io import storage
from svgan.io.video_reader import Survey
from svgan.pipelines import embed as alone
from sweeps.ray_runtime import resources
from sweeps.storage import study_files

Arrays = dict[str, np.ndarray]

PER_CPU = 2  # stretches under way
PER_ENCODER = 4  # stretches for which a further GPU is asked for
GPU_PATIENCE = 900.0  # seconds; a cloud's machine takes minutes to come, and as long again to be installed
LOOK_EVERY = 2.0  # seconds
LOSSES = 3  # workers that may be lost over one stretch, in which spot machines rarely have a part


@dataclass(kw_only=True)
class Video:
    """A video under way: its stretches, the track when all are scanned, and how many of which step are finished."""

    path: Path
    digest: str
    found: Survey
    place: str
    track: Track | None = None
    done: dict[str, set[int]] = field(default_factory=lambda: {"faces": set(), "codes": set()})

    def file(self, step: str, number: int, domain: Domain) -> str:
        name = f"faces-{number:05d}.npz" if step == "faces" else alone.codes_name(domain, number)
        return storage.join(self.place, name)


@dataclass(kw_only=True, eq=False)
class Hand:
    """An encoder that is asked for (loading) or there. busy: stretches that it has; node: where it is."""

    actor: Any
    loading: Any
    busy: int = 0
    node: str = ""


@dataclass(kw_only=True, eq=False)
class Stretch:
    """A step ('faces' or 'codes') of a stretch. crops, hand: of one whose codes an encoder makes."""

    video: Video
    step: str
    number: int
    losses: int = 0
    crops: Any = None
    hand: Hand | None = None


class Lost(Exception):
    """A worker went in the middle of a stretch, which is to be begun again."""


class Crew:
    """Workers of a running Ray. Raises UserError where it has no CPU, and none could come."""

    def __init__(self, domain: Domain):
        import ray

        self.domain, self.folder = domain, str(Path(domain.folder).resolve())
        self.running: dict[Any, Stretch] = {}
        self.hands: list[Hand] = []
        self._scan: Any = ray.remote(num_cpus=1, max_retries=0)(scan_stretch)
        self._codes: Any = ray.remote(num_cpus=1, max_retries=0)(code_stretch)
        self._cut: Any = ray.remote(num_cpus=1, max_retries=0, num_returns=2)(cut_stretch)
        self._encoder: Any = ray.remote(num_cpus=0, num_gpus=1, max_restarts=0, max_task_retries=0)(Encoder)
        self._tracks: dict[str, Any] = {}
        self._said: set[str] = set()
        self.there, self.looked = resources.room(), time.monotonic()
        self.since: float | None = None  # when codes began to wait for a GPU; None while there is an encoder
        if self.there.total("CPU") < 1:
            raise UserError(f"{self.there.where} has no CPU to work on ({self.there.growth}); start a node with some")

    @property
    def cpus(self) -> int:
        """Those that are there."""
        return int(sum(node.get("CPU", 0) for node in self.there.nodes))

    @property
    def gpus(self) -> int:
        """Those that are there or could come."""
        return self.there.workers(0, 1)

    @property
    def ready(self) -> list[Hand]:
        return [hand for hand in self.hands if not hand.loading]

    @property
    def patience_is_over(self) -> bool:
        return self.since is not None and time.monotonic() - self.since > GPU_PATIENCE

    def look(self, codes: int) -> None:
        """See what there is by now, and ask for the encoders that so many stretches in line for their codes want."""
        now = time.monotonic()
        if now - self.looked > LOOK_EVERY:
            self.looked, self.there = now, resources.room()
            self._forget_lost_nodes()
            if not self.cpus:
                self._say("waiting for a node: none has a CPU now; it goes on when one joins")
        under_way = sum(stretch.step == "codes" for stretch in self.running.values())
        wanted = encoders(self.gpus, codes + under_way)
        for hand in [hand for hand in self.hands[wanted:] if hand.loading]:
            self._dismiss(hand)
        while len(self.hands) < wanted:
            actor = self._encoder.remote(self.folder, self.domain.digest)
            self.hands.append(Hand(actor=actor, loading=actor.load.remote()))
        if self.ready or not self.gpus:
            self.since = None
        elif codes and self.since is None:
            self.since = now
        if self.patience_is_over:
            self._say(
                f"no GPU for {GPU_PATIENCE / 60:.0f} min: CPUs make the codes until one comes; theirs may differ from "
                "a GPU's in the last bit"
            )
        elif self.since is not None and not any(node.get("GPU") for node in self.there.nodes):
            self._say(f"waiting for a GPU, {GPU_PATIENCE / 60:.0f} min at most; then CPUs make the codes")

    def takes(self, step: str) -> bool:
        """Whether another stretch may begin this step. Few more crops are cut than there are CPUs and encoders: they
        are kept in memory until they are encoded."""
        if len(self.running) >= under_way_at_most(self.there):
            return False
        if step == "faces" or not self.gpus:
            return True
        if ready := self.ready:
            cut = sum(stretch.crops is not None or stretch.hand is not None for stretch in self.running.values())
            return cut < self.cpus + 2 * len(ready)
        return self.patience_is_over

    def start(self, stretch: Stretch) -> None:
        """Begin a stretch that `takes` let through."""
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

    def wait(self) -> tuple[Stretch, UserError | Lost | None] | None:
        """The next stretch that is finished, with what came in its way; None after LOOK_EVERY seconds, or when
        something else has changed.

        Raises UserError for a stretch over which workers were lost again and again, and for a node that has not the
        driver's domain.
        """
        import ray

        loading = {hand.loading: hand for hand in self.hands if hand.loading}
        if not self.running and not loading:
            return None
        found, _ = ray.wait([*self.running, *loading], timeout=LOOK_EVERY, fetch_local=False)
        if not found:
            return None
        if found[0] in loading:
            self._loaded(loading[found[0]])
            return None
        stretch = self.running.pop(found[0])
        crops, hand, stretch.crops, stretch.hand = stretch.crops, stretch.hand, None, None
        if hand:
            hand.busy -= 1
        try:
            people = ray.get(found[0])
        except ray.exceptions.RayError as error:
            return stretch, self._trouble(stretch, hand, error)
        if crops is None:
            return stretch, None
        if not (ready := self.ready):
            return stretch, Lost()
        stretch.hand = min(ready, key=lambda hand: hand.busy)
        stretch.hand.busy += 1
        file = stretch.video.file("codes", stretch.number, self.domain)
        self.running[stretch.hand.actor.encode.remote(crops, people, file)] = stretch
        return None

    def dismiss(self) -> None:
        import ray

        for ref in self.running:
            ray.cancel(ref, force=False)
        for hand in list(self.hands):
            self._dismiss(hand)

    def _dismiss(self, hand: Hand) -> None:
        import ray

        if hand in self.hands:
            self.hands.remove(hand)
            ray.kill(hand.actor)

    def _loaded(self, hand: Hand) -> None:
        """An encoder has its domain, or was lost before."""
        import ray

        try:
            hand.node, hand.loading = ray.get(hand.loading), None
        except ray.exceptions.RayError as error:
            cause = cause_of(error)
            if isinstance(cause, UserError):
                raise cause from None
            if not isinstance(cause, ray.exceptions.RayError):
                raise
            self._dismiss(hand)

    def _forget_lost_nodes(self) -> None:
        """Let no stretch be given to an encoder that went with its node while it had nothing to do."""
        import ray

        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        for hand in self.ready:
            if hand.node not in alive:
                self._dismiss(hand)

    def _trouble(self, stretch: Stretch, hand: Hand | None, error: Exception) -> UserError | Lost:
        import ray

        cause = cause_of(error)
        if isinstance(cause, UserError):
            return cause
        if not isinstance(cause, ray.exceptions.RayError):
            raise error
        if hand and isinstance(cause, ray.exceptions.RayActorError):
            self._dismiss(hand)
        stretch.losses += 1
        if stretch.losses > LOSSES:
            why = one_line(error, 200)
            raise UserError(
                f"{stretch.video.path}: a worker was lost again and again ({why}); see Ray's logs"
            ) from error
        return Lost()

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print(text, flush=True)


def under_way_at_most(there: resources.Room) -> int:
    return PER_CPU * max(1, int(there.total("CPU")))


def encoders(gpus: int, stretches: int) -> int:
    """How many encoders so many stretches are worth."""
    return min(gpus, math.ceil(stretches / PER_ENCODER))


def cause_of(error: Exception) -> Exception:
    """What a task raised; a task may have failed because another did."""
    import ray

    cause: Any = error
    while isinstance(cause, ray.exceptions.RayTaskError) and cause.cause is not None:
        cause = cause.cause
    return cause


def scan_stretch(path: str, chunk: tuple[int, int], file: str) -> None:
    save(file, scan(_there(path), chunk, face_finder()))


def code_stretch(path: str, track: Track, rows: slice, size: int, folder: str, digest: str, file: str) -> None:
    crops, people = alone.cut(_there(path), track, rows, size)
    save(file, {"codes": alone.encode(domain_here(folder, digest, "cpu"), crops), "people": people})


def cut_stretch(path: str, track: Track, rows: slice, size: int) -> tuple[np.ndarray, np.ndarray]:
    return alone.cut(_there(path), track, rows, size)


class Encoder:
    """An actor on a GPU."""

    def __init__(self, folder: str, digest: str):
        self.domain = (folder, digest, "auto")

    def load(self) -> str:
        """The domain; returns the node's id. Not in __init__, whose errors Ray hands on as text."""
        import ray

        domain_here(*self.domain)
        return ray.get_runtime_context().get_node_id()

    def encode(self, crops: np.ndarray, people: np.ndarray, file: str) -> None:
        save(file, {"codes": alone.encode(domain_here(*self.domain), crops), "people": people})


@cache
def domain_here(folder: str, digest: str, device: str) -> Domain:
    """device: named for CPU tasks, to which Ray shows a node's GPUs too."""
    from svgan.torch_utils.device import pick_device

    domain = Domain.load(folder, pick_device(device))
    if domain.digest != digest:
        raise UserError(f"{folder}: another domain on this node ({domain.digest}) than the driver's ({digest})")
    return domain


def _there(path: str) -> Path:
    if not Path(path).exists():
        raise UserError(f"{path}: not on every node of the cluster; put it where all of them see it")
    return Path(path)


def save(file: str, arrays: Arrays) -> None:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    study_files.write(file, out.getvalue())
