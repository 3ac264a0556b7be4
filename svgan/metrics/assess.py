"""All metrics of one model under one protocol, with intervals, and the comparison of two models.

`Judge` prepares the real side once, then measures models. A metric is a function of sample counts (how often each
generated clip occurs), so one bootstrap gives intervals and comparisons of all (`svgan.metrics.intervals`).

Axes: n clip, T frame, L W+ layer, D width of W, K coordinate, F feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from svgan.errors import UserError
from svgan.metrics import fvd
from svgan.metrics.features import Extractor, Kind, Look, extractor, here, real_features
from svgan.metrics.frechet import FrechetTo
from svgan.metrics.fvd import REFERENCES, Progress, Reference, silent
from svgan.metrics.identity import content_distance, subject_distance, typical_descriptor
from svgan.metrics.intervals import DRAWS, Comparison, Statistic, bootstrap, endless, paired, weighted
from svgan.metrics.kernel import KernelTo
from svgan.metrics.long_clips import LongClips
from svgan.metrics.loops import LoopJudge, gradient_angles
from svgan.metrics.moments import Moments
from svgan.metrics.names import ACD, ARCFACE_WITHIN, LOOPS_PHI
from svgan.metrics.protocol import Protocol
from svgan.metrics.windows import check_real, rollouts
from svgan.motion import GRUMotion
from svgan.torch_utils import rng

if TYPE_CHECKING:
    from svgan.images.domain import Domain
    from svgan.latents.manifest import Latents
    from svgan.metrics.clip_model import ClipModel

METRICS: dict[str, tuple[Kind, ...]] = {  # by name, the features of generated clips that it needs
    "fvd": ("clips",),
    "kvd": ("clips",),
    "fid": ("pictures",),
    "kid": ("pictures",),
    "identity": ("faces",),
    "arcface": ("arcface",),
    "loops": (),
}
LEAST_ENDLESS = 16
PHI_CLIPS = 64


@dataclass(frozen=True)
class Figure:
    """A metric's value with its 95 % interval.

    endless: the value extrapolated to infinitely many clips; footage: the footage's own value. Both are None where
    undefined.
    """

    value: float
    low: float
    high: float
    endless: float | None = None
    footage: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """Convert to JSON, with None for NaN."""
        return {k: None if v is None or math.isnan(v) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Statistics:
    """One metric as a function of the counts of n clips.

    plain: the value that a run logs, if it is computed in another way than `statistic` (equal up to the last digits).
    """

    statistic: Statistic
    n: int
    plain: float | None = None
    footage: float | None = None
    extrapolates: bool = False


@dataclass(frozen=True)
class Measured:
    """The metrics of one model: statistics by name, under the protocol of `hash`."""

    hash: str
    statistics: dict[str, Statistics] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        """Return the metrics' values, without intervals."""
        return {
            name: float(one.statistic(np.ones(one.n))) if one.plain is None else one.plain
            for name, one in self.statistics.items()
        }

    def figures(self, draws: int = DRAWS, progress: Progress = silent) -> dict[str, Figure]:
        """Return the metrics' values with intervals of `draws` resamples."""
        found = {}
        for done, (name, one) in enumerate(self.statistics.items()):
            progress("intervals", done, len(self.statistics))
            around = bootstrap(one.statistic, one.n, draws=draws)
            value = around.value if one.plain is None else one.plain
            moved = value - around.value
            far = endless(one.statistic, one.n) if one.extrapolates and one.n >= LEAST_ENDLESS else None
            found[name] = Figure(value, around.low + moved, around.high + moved, far, one.footage)
        return found


def compare(first: Measured, second: Measured, draws: int = DRAWS) -> dict[str, Comparison]:
    """Compare two models metric by metric, with paired resamples. Raises UserError for metrics of two protocols."""
    if first.hash != second.hash:
        raise UserError(
            f"figures of protocol {first.hash} and of {second.hash} do not compare; measure both under one protocol"
        )
    both = [name for name in first.statistics if name in second.statistics]
    pairs = {name: (first.statistics[name], second.statistics[name]) for name in both}
    return {name: paired(one.statistic, other.statistic, one.n, draws=draws) for name, (one, other) in pairs.items()}


class Judge:
    """The real side of a protocol, against which models are measured.

    metrics: keys of METRICS. frames: the recorded frames, for the reference 'original' (see fvd.real_moments).
    extractors: used instead of the real networks. spread: makes the function that extracts features of a protocol's
    clips, instead of this process. strict: require LEAST_REAL real clips; protocols of one clip a video always do.

    Raises UserError for footage with too few or too short clips, or of another domain.
    """

    def __init__(
        self,
        protocol: Protocol,
        domain: Domain,
        latents: Latents,
        metrics: Sequence[str] = ("fvd",),
        *,
        seed: int = 0,
        frames: np.ndarray | None = None,
        strict: bool = True,
        extractors: Mapping[Kind, Extractor] | None = None,
        spread: Callable[[Protocol], Look] | None = None,
        progress: Progress = silent,
    ):
        unknown = [name for name in metrics if name not in METRICS]
        if unknown or not metrics:
            raise UserError(f"--metrics {','.join(unknown)}: unknown; any of {','.join(METRICS)}")
        if latents.manifest.domain != domain.digest:
            raise UserError(
                f"{latents.uri}: footage of another domain ({latents.manifest.domain[:12]}); give its codes"
            )
        if strict:
            check_real(protocol, latents)
        self.protocol, self.domain, self.latents, self.metrics = protocol, domain, latents, tuple(metrics)
        self.seed, self.frames, self.progress = seed, frames, progress
        self.batch = fvd.batch_of(domain.device)
        kinds = dict.fromkeys(kind for name in metrics for kind in METRICS[name])
        self.extractors = {k: (extractors or {}).get(k) or extractor(k, protocol, domain.device) for k in kinds}
        self.look = spread(protocol) if spread else here(domain, protocol, self.extractors, self.batch)
        self.moments: dict[Reference, Moments] = {}
        self.real: dict[Reference, dict[Kind, np.ndarray]] = {}
        for reference in REFERENCES:
            self._prepare(reference)
        self.loops: LoopJudge | None = None
        if "loops" in metrics:
            self.long = LongClips(latents)
            self.loops = LoopJudge(self.long.footage, latents.manifest.fps)

    @property
    def warnings(self) -> list[str]:
        """Warnings that readers of the metrics must know, one line each."""
        lines = []
        n, width = self.protocol.clips, next((m.mean.size for m in self.moments.values()), 0)
        if n <= width:
            lines.append(f"{n} generated clips are fewer than {width} features: FVD is biased upwards")
        for reference, moments in self.moments.items():
            if moments.count <= width:
                lines.append(f"{moments.count} real clips ({reference}) are fewer than {width} features: the same bias")
        return lines

    def _prepare(self, reference: Reference) -> None:
        """Prepare what the metrics need of one reference.

        'original' is left out if neither its features nor frames are available.
        """
        protocol, domain, latents = self.protocol, self.domain, self.latents
        if "fvd" in self.metrics:
            known = fvd.find_moments(protocol, domain, latents, reference)
            if known is None and (reference == "wplus" or self.frames is not None):
                known = fvd.real_moments(
                    protocol, domain, latents, reference, self.frames, logits=self._logits, progress=self.progress
                )
            if known is not None:
                self.moments[reference] = known
        seen: list[Kind] = ["clips"] if "kvd" in self.metrics else []
        seen += [kind for kind in ("pictures", "faces", "arcface") if kind in self.extractors]  # type: ignore[misc]
        if seen and (reference == "wplus" or self.frames is not None):
            wanted = {kind: self.extractors[kind] for kind in seen}
            self.real[reference] = real_features(
                wanted, protocol, domain, latents, reference, self.frames, look=self.look, progress=self.progress
            )

    def _logits(self, clips: fvd.Clips, total: int, stage: str, progress: Progress) -> np.ndarray:
        return self.look(["clips"], clips, total, stage, progress)["clips"]

    def measure(self, sampler: ClipModel, seed: int | None = None) -> Measured:
        """Measure all metrics of a model's clips. seed: by default the judge's. Raises UserError if codes are not
        finite.
        """
        seed = self.seed if seed is None else seed
        measured = Measured(self.protocol.hash)
        if self.extractors:
            name = self.protocol.name
            groups = rollouts(sampler, {name: self.protocol}, seed)
            clips = (sampler.render_own(clip) for group in groups for clip in group[name])
            stage = "generated clips"
            seen = self.look(list(self.extractors), clips, self.protocol.clips, stage, self.progress)
            measured.statistics.update(self._distances(seen))
            if "identity" in self.metrics:
                measured.statistics.update(self._identity(seen["faces"]))
            if "arcface" in self.metrics:
                measured.statistics.update(self._arcface(seen["arcface"]))
        if self.loops is not None:
            measured.statistics.update(self._loops(sampler, seed))
        return measured

    def _distances(self, seen: Mapping[Kind, np.ndarray]) -> dict[str, Statistics]:
        found: dict[str, Statistics] = {}
        unbiased, n = self.protocol.covariance == "1/(N-1)", self.protocol.clips
        for reference in self.moments:
            found[self._name("fvd", reference)] = self._fvd(reference, seen["clips"])
        for reference, real in self.real.items():
            if "kvd" in self.metrics:
                found[self._name("kvd", reference)] = Statistics(KernelTo(real["clips"]).prepared(seen["clips"]), n)
            if "pictures" in real:
                theirs = real["pictures"].reshape(-1, real["pictures"].shape[-1])
                ours = seen["pictures"].reshape(-1, theirs.shape[-1])
                if "fid" in self.metrics:
                    statistic = FrechetTo.of_features(theirs, unbiased=unbiased).prepared(ours)
                    found[self._name("fid", reference)] = Statistics(self._by_clip(statistic), n, extrapolates=True)
                if "kid" in self.metrics:
                    statistic = KernelTo(theirs).prepared(ours)
                    found[self._name("kid", reference)] = Statistics(self._by_clip(statistic), n)
        return found

    def _fvd(self, reference: Reference, logits: np.ndarray) -> Statistics:
        """Return FVD's statistic; trials log the value only, so the rest is prepared on first use."""
        moments, rule = self.moments[reference], self.protocol.covariance

        @cache
        def prepared() -> Statistic:
            to = FrechetTo.of_moments(moments.mean, moments.covariance(rule), unbiased=rule == "1/(N-1)")
            return to.prepared(logits)

        value = fvd.distance(self.protocol, moments, fvd.moments_of(logits, self.batch))
        return Statistics(lambda counts: prepared()(counts), self.protocol.clips, value, extrapolates=True)

    def _name(self, metric: str, reference: Reference) -> str:
        own = self.protocol.figure.replace("fvd", metric, 1)
        return own if reference == "wplus" else f"{own}_original"

    def _by_clip(self, statistic: Statistic) -> Statistic:
        """Turn a statistic of pictures into one of clips; the pictures of a clip are resampled together."""
        return lambda counts: statistic(np.repeat(counts, self.protocol.pictures))

    def _identity(self, faces: np.ndarray) -> dict[str, Statistics]:
        """ACD, the distance from the footage's subject, and the share of frames with a face, of FACE_CLIPS clips."""
        theirs = self.real["wplus"]["faces"]
        subject = typical_descriptor(theirs.reshape(-1, theirs.shape[-1]))
        found = {}
        for name, measure in (
            (ACD, content_distance),
            ("identity", lambda clip: subject_distance(clip, subject)),
            ("faces", lambda clip: float(np.isfinite(clip[:, 0]).mean())),
        ):
            own = weighted([measure(clip) for clip in theirs])(np.ones(len(theirs)))
            found[name] = Statistics(weighted([measure(clip) for clip in faces]), len(faces), footage=own)
        return found

    def _arcface(self, seen: np.ndarray) -> dict[str, Statistics]:
        """Similarity of a clip's frames to one another, and to the footage's subject."""
        from svgan.metrics.arcface import to_subject, within

        theirs = self.real["wplus"]["arcface"]
        known = theirs.reshape(-1, theirs.shape[-1])
        found = {}
        for name, measure in ((ARCFACE_WITHIN, within), ("arcface", lambda clip: to_subject(clip, known))):
            own = float(np.mean([measure(clip) for clip in theirs]))
            found[name] = Statistics(weighted([measure(clip) for clip in seen]), len(seen), footage=own)
        return found

    def _loops(self, sampler: ClipModel, seed: int) -> dict[str, Statistics]:
        assert self.loops is not None
        clips, own = self.long.generate(sampler, self.domain, seed, self.progress), self.loops.own
        found = {
            f"loops/{name}": Statistics(statistic, len(clips), footage=getattr(own, name))
            for name, statistic in self.loops.prepared(clips).items()
        }
        if not isinstance(sampler.motion, GRUMotion):
            return found  # phi compares the noise of the first and of later frames, which only a GRU has
        window = int(sampler.meta["config"]["window"]) if "config" in sampler.meta else self.protocol.frames
        generator = rng.generator(sampler.space.mean.device, seed, "phi")
        phi = gradient_angles(sampler.motion, window, PHI_CLIPS, generator)
        return found | {LOOPS_PHI: Statistics(weighted(phi), len(phi))}


def to_json(protocol: Protocol, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Return the whole protocol, its hash, and the metrics."""
    return {
        "protocol": protocol.to_json(),
        "hash": protocol.hash,
        "figures": {name: one.to_json() for name, one in figures.items()},
    }
