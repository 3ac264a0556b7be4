"""All metrics of a model on made sets, with tiny networks in place of I3D, Inception and dlib's; one test with I3D."""

import hashlib
import multiprocessing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_sampler import made_codes

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.manifest import Latents
from svgan.latents.shards import open_latents
from svgan.metrics import assess, features, fvd, i3d, windows
from svgan.metrics.assess import Judge, compare
from svgan.metrics.features import FACE_FRAMES, Extractor, evenly
from svgan.metrics.moments import Moments
from svgan.metrics.protocol import PROTOCOLS, Protocol, usual_precision
from svgan.metrics.windows import rollouts
from svgan.motion.noise import ALL
from svgan.sampling.sampler import Sampler

EVERYTHING = ("fvd", "kvd", "fid", "kid", "identity", "loops")
FEW = 40  # resamples
SHORT = replace(PROTOCOLS["svg-short"], clips=16, real_clips=24, frames=9, rollout=9, detector="made/1")


def projection(width: int, seed: int):
    """uint8 [b, T, S, S, 3] to [b, width]: a fixed random projection of a clip's mean picture and of its motion."""
    weights = np.random.default_rng(seed).normal(size=(2 * 192, width)) / 20

    def see(clips: np.ndarray) -> np.ndarray:
        small = clips.reshape(*clips.shape[:2], 8, clips.shape[2] // 8, 8, clips.shape[3] // 8, 3).mean((3, 5)) / 64
        moved = np.abs(np.diff(small, axis=1)).mean(1) if clips.shape[1] > 1 else 0 * small[:, 0]
        flat = np.concatenate([small.mean(1), 4 * moved], 1).reshape(len(clips), -1)
        return (flat @ weights).astype(np.float32)

    return see


def made_extractors() -> dict:
    clips, picture, face = projection(400, 0), projection(12, 1), projection(128, 2)

    def frames(see, count):
        return lambda some: np.stack([see(evenly(clip, count)[:, None]) for clip in some])

    return {
        "clips": Extractor(clips, "made/1"),
        "pictures": Extractor(frames(picture, SHORT.pictures), "made/2"),
        "faces": Extractor(frames(face, FACE_FRAMES), "made/3", 16),
    }


@pytest.fixture(scope="module")
def latents(domain, tmp_path_factory) -> Latents:
    return made_codes(domain, [900, 900], tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of these tests that still has the network."""
    from svgan.assets import cache as asset_cache

    folder = tmp_path_factory.mktemp("cache")
    (folder / "i3d").symlink_to(asset_cache.cache_folder() / "i3d")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SVGAN_CACHE", str(folder))
        yield folder


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SVGAN_CACHE", str(tmp_path / "own"))
    return tmp_path / "own"


@dataclass
class Replay(Sampler):
    """A sampler that shows windows of the footage, spoilt by noise or frozen."""

    latents: Latents
    noise: float = 0.0
    frozen: bool = False
    motion = None

    def stream(self, clips, length, seed, *, chunk=64, part=ALL):
        rng = np.random.default_rng(seed)
        starts = self.latents.windows(25)[rng.integers(0, len(self.latents.windows(25)), clips)]
        for begin in range(0, length, chunk):
            rows = starts[:, None] + (0 if self.frozen else np.arange(begin, min(begin + chunk, length)) % 25)
            rows = np.broadcast_to(rows, (clips, min(begin + chunk, length) - begin))
            codes = self.latents.codes[rows]
            yield torch.from_numpy(codes + self.noise * rng.normal(size=codes.shape)).float()[part]


def test_every_metric_has_its_interval_and_names_of_its_own(domain, latents, sampler):
    judge = Judge(SHORT, domain, latents, EVERYTHING, extractors=made_extractors())
    figures = judge.measure(sampler).figures(FEW)
    loops = {f"loops/{name}" for name in ("repeat", "recurrence", "still", "norm_drift", "speed", "spectrum", "phi")}
    distances = {"fvd_short", "kvd_short", "fid_short", "kid_short"}
    assert set(figures) == distances | {"acd", "identity", "faces"} | loops
    for name, one in figures.items():
        assert one.low <= one.value <= one.high, name
        assert (one.endless is not None) == (name in ("fvd_short", "fid_short"))
        assert (one.footage is not None) == (name not in distances | {"loops/phi"}), name
    assert figures["fvd_short"].low < figures["fvd_short"].high
    assert figures["acd"].footage > 0
    assert figures["loops/recurrence"].footage == pytest.approx(0.05, abs=0.01)


def test_replayed_footage_is_better_than_noise_and_than_a_frozen_clip(domain, latents):
    """Intervals apart, for every distance; the comparison is sure of it."""
    judge = Judge(SHORT, domain, latents, ("fvd", "kvd", "fid", "kid"), extractors=made_extractors())
    good, noisy = judge.measure(Replay(latents)), judge.measure(Replay(latents, noise=4.0))
    near, far = good.figures(FEW), noisy.figures(FEW)
    for name, one in near.items():
        assert one.high < far[name].low, name
    for name, found in compare(good, noisy, FEW).items():
        assert found.first_is_better, name
        assert found.sure > 0.99, name
        assert found.high < 0, name
    frozen = judge.measure(Replay(latents, frozen=True)).figures(FEW)
    for name in ("fvd_short", "kvd_short"):
        assert near[name].high < frozen[name].low


def test_a_protocol_of_one_clip_a_video_on_a_set_of_many(domain, tmp_path):
    many = made_codes(domain, [20] * 70, tmp_path)
    protocol = replace(PROTOCOLS["stylegan-v-16"], clips=6, detector="made/1")
    judge = Judge(protocol, domain, many, ("fvd", "kvd"), extractors=made_extractors())
    assert judge.moments["wplus"].count == 70
    figures = judge.measure(Replay16(many)).figures(FEW)
    assert set(figures) == {"fvd/stylegan-v-16", "kvd/stylegan-v-16"}
    assert judge.warnings == [
        "6 generated clips are fewer than 400 features: FVD is biased upwards",
        "70 real clips (wplus) are fewer than 400 features: the same bias",
    ]
    features = judge.real["wplus"]["clips"]
    cov = np.cov(features.T.astype(np.float64), bias=True)
    ours = judge.measure(Replay16(many))
    from svgan.metrics.frechet import frechet_distance
    from svgan.metrics.windows import rollouts

    codes = next(rollouts(Replay16(many), {"p": protocol}, 0))["p"]
    seen = projection(400, 0)(np.stack([domain.render(clip) for clip in codes])).astype(np.float64)
    expected = frechet_distance(features.mean(0), cov, seen.mean(0), np.cov(seen.T, bias=True))
    assert ours.statistics["fvd/stylegan-v-16"].plain == pytest.approx(expected, rel=1e-3), "1/N on either side"


class Replay16(Sampler):
    motion = None

    def __init__(self, latents):
        self.latents = latents

    def stream(self, clips, length, seed, *, chunk, part=ALL):
        starts = self.latents.windows(20)[:clips]
        yield torch.from_numpy(self.latents.codes[starts[:, None] + np.arange(length) % 20])[part]


def test_what_the_real_side_showed_is_kept_and_a_changed_network_or_footage_is_a_miss(domain, latents, own_cache):
    told: list = []
    flags = {"metrics": ("kvd", "fid", "identity"), "extractors": made_extractors()}
    flags["progress"] = lambda stage, done, total: told.append(stage)
    first = Judge(SHORT, domain, latents, **flags)
    assert "real clips, wplus" in told
    assert len(list((own_cache / "features").iterdir())) == 3
    told.clear()
    again = Judge(SHORT, domain, latents, **flags)
    assert not told
    for kind, found in again.real["wplus"].items():
        np.testing.assert_array_equal(found, first.real["wplus"][kind])
    other = made_extractors()
    other["pictures"] = replace(other["pictures"], rule="made/other")
    Judge(SHORT, domain, latents, **(flags | {"extractors": other}))
    assert len(list((own_cache / "features").iterdir())) == 4, "one network changed: its features are made again"
    Judge(replace(SHORT, seed=1), domain, latents, **flags)
    assert len(list((own_cache / "features").iterdir())) == 7
    for file in (own_cache / "features").iterdir():
        file.write_bytes(b"broken")
    told.clear()
    repaired = Judge(SHORT, domain, latents, **flags)
    assert told
    np.testing.assert_array_equal(repaired.real["wplus"]["clips"], first.real["wplus"]["clips"])


RACES, WRITES, WAIT = 2, 60, 600  # WAIT: seconds, after which the other process must have failed


class Heard:
    """Whether there was any progress. The first waits for the other process's: both have found nothing by then."""

    any = False

    def __init__(self, barrier) -> None:
        self.barrier = barrier

    def __call__(self, *told) -> None:
        if not self.any:
            self.any = True
            self.barrier.wait(WAIT)


def race(cache: Path, domain: Path, latents: str, barrier, told) -> None:
    """A process that prepares the real side of RACES protocols, each while the other does, and then writes one's files
    and reads them again and again, as the other does."""
    torch.set_num_threads(1)
    own, codes = Domain.load(domain), open_latents(latents)
    for seed in range(RACES):
        few, made = replace(SHORT, real_clips=6, seed=seed), Heard(barrier)
        judge = Judge(few, own, codes, ("fvd", "kvd"), extractors=made_extractors(), progress=made)
        found = hashlib.sha256(judge.real["wplus"]["clips"].tobytes())
        found.update(judge.moments["wplus"].mean.tobytes() + judge.moments["wplus"].cov.tobytes())
        told.put((seed, found.hexdigest(), made.any))
    barrier.wait(WAIT)
    kept, sums = (min((cache / name).glob("[!.]*")) for name in ("features", "moments"))
    seen, moments = features._load(kept), Moments.load(sums)
    for _ in range(WRITES):
        features._save(kept, seen)
        moments.save(sums, "float32")
        np.testing.assert_array_equal(features._load(kept), seen)
        np.testing.assert_array_equal(Moments.load(sums).mean, moments.mean)


def test_two_processes_that_race_for_the_cache_are_fine(domain, latents, own_cache):
    """Both find nothing and write the same files, while the other reads them."""
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(2), context.Queue()
    both = [context.Process(target=race, args=(own_cache, domain.folder, latents.uri, barrier, told)) for _ in range(2)]
    for process in both:
        process.start()
    found = [told.get(timeout=WAIT) for _ in range(2 * RACES)]
    for process in both:
        process.join(WAIT)
        assert process.exitcode == 0
    for seed in range(RACES):
        assert len({digest for at, digest, _ in found if at == seed}) == 1
    assert all(made for _, _, made in found), "both made what the other was making"
    kept = [path.name for folder in ("features", "moments") for path in (own_cache / folder).iterdir()]
    assert len(kept) == 2 * RACES
    assert not any("partial" in name for name in kept)


def test_faces_are_the_same_whatever_else_is_measured(domain, latents, own_cache):
    import shutil

    alone = Judge(SHORT, domain, latents, ("identity",), extractors=made_extractors())
    shutil.rmtree(own_cache / "features")
    together = Judge(SHORT, domain, latents, EVERYTHING, extractors=made_extractors())
    np.testing.assert_array_equal(alone.real["wplus"]["faces"], together.real["wplus"]["faces"])
    assert alone.real["wplus"]["faces"].shape == (16, FACE_FRAMES, 128)


def test_the_original_reference_comes_with_its_frames(domain, latents, sampler):
    frames = 255 - domain.render(latents.codes)
    judge = Judge(SHORT, domain, latents, ("fvd", "fid"), frames=frames, extractors=made_extractors())
    figures = judge.measure(Replay(latents)).figures(FEW)
    assert set(figures) == {"fvd_short", "fvd_short_original", "fid_short", "fid_short_original"}
    assert figures["fid_short"].value < figures["fid_short_original"].value


def test_identity_by_a_network_that_the_user_brings(domain, latents):
    face = projection(512, 3)

    def see(clips):
        found = np.stack([face(evenly(clip, FACE_FRAMES)[:, None]) for clip in clips])
        return found / np.linalg.norm(found, axis=-1, keepdims=True)

    brought = {"arcface": Extractor(see, "made/4", 16)}
    figures = Judge(SHORT, domain, latents, ("arcface",), extractors=brought).measure(Replay(latents)).figures(FEW)
    assert set(figures) == {"arcface", "arcface_within"}
    for one in figures.values():
        assert one.low <= one.value <= one.high <= 1
        assert one.value == pytest.approx(one.footage, abs=0.05), "it is the footage that is replayed"


def test_clips_in_groups_give_the_same_figures(domain, latents, sampler, monkeypatch):
    judge = Judge(SHORT, domain, latents, ("fvd", "kid"), extractors=made_extractors())
    whole = judge.measure(sampler).figures(FEW)
    monkeypatch.setattr(windows, "GROUP", 6)
    parts = judge.measure(sampler).figures(FEW)
    for name, one in whole.items():
        assert parts[name].value == pytest.approx(one.value, rel=1e-4), name


@pytest.mark.parametrize("kind", ["short", "long"])
def test_a_figure_is_the_distance_of_i3ds_moments_in_every_digit(domain, latents, sampler, kind):
    """With I3D itself, as many clips a call as the judge gives it: a trial logs the value, with no interval."""
    protocol = replace(PROTOCOLS[f"svg-{kind}"], clips=3, real_clips=2, precision=usual_precision("cpu"))
    measured = Judge(protocol, domain, latents, strict=False).measure(sampler, seed=5)
    both = {name: replace(PROTOCOLS[name], clips=3) for name in ("svg-short", "svg-long")}
    codes = next(rollouts(sampler, both, 5))[protocol.name]
    fake, network = Moments(400), i3d.load(precision=protocol.precision)
    for part in codes.split(fvd.BATCH["cpu"]):
        fake.update(network(torch.from_numpy(np.stack([domain.render(clip) for clip in part]))).numpy())
    value = fvd.distance(protocol, fvd.real_moments(protocol, domain, latents), fake)
    assert measured.hash == protocol.hash
    assert measured.values() == {f"fvd_{kind}": value}
    assert measured.figures(FEW)[f"fvd_{kind}"].value == value


def test_bad_input_is_one_line(domain, latents, tmp_path):
    few = made_codes(domain, [300], tmp_path)
    with pytest.raises(UserError, match="svg-short: 33 real clips, needs 64"):
        Judge(SHORT, domain, few, extractors=made_extractors())
    with pytest.raises(UserError, match="stylegan-v-16: 2 real clips, needs 64"):
        Judge(PROTOCOLS["stylegan-v-16"], domain, latents)
    with pytest.raises(UserError, match=r"--metrics fdv: unknown; any of fvd,kvd,fid,kid,identity,arcface,loops"):
        Judge(SHORT, domain, latents, ("fvd", "fdv"))
    with pytest.raises(UserError, match="its detector is i3d/other, the one here is"):
        Judge(replace(SHORT, detector="i3d/other"), domain, latents)
    with pytest.raises(UserError, match="picture_detector is other"):
        Judge(replace(SHORT, picture_detector="other"), domain, latents, ("fid",))
    alien = replace(latents, manifest=replace(latents.manifest, domain="0" * 16))
    with pytest.raises(UserError, match="footage of another domain"):
        Judge(SHORT, domain, alien)
    judge = Judge(SHORT, domain, latents, extractors=made_extractors())
    with pytest.raises(UserError, match="diverged"):
        judge.measure(Replay(latents, noise=float("nan")))
    other = Judge(SHORT.with_clips(4), domain, latents, extractors=made_extractors())
    with pytest.raises(UserError, match="do not compare; measure both under one protocol"):
        compare(judge.measure(Replay(latents)), other.measure(Replay(latents)))


def test_short_footage_has_no_loops_to_speak_of(domain, tmp_path):
    short = made_codes(domain, [60] * 40, tmp_path)
    with pytest.raises(UserError, match=r"longest run .* has 60, and they need 3 s; leave loops out of --metrics"):
        Judge(SHORT, domain, short, ("loops",))


def test_json_says_the_whole_protocol(domain, latents):
    import json

    protocol = Protocol(name="p", detector="made/1", clips=4)
    figures = {"a": assess.Figure(1.5, float("nan"), 2.0)}
    told = json.loads(json.dumps(assess.to_json(protocol, figures), allow_nan=False))
    assert Protocol.from_json(told["protocol"]) == protocol
    assert told["hash"] == protocol.hash
    assert told["figures"]["a"] == {"value": 1.5, "low": None, "high": 2.0, "endless": None, "footage": None}
