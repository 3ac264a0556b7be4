"""FVD end to end on a small random domain with the real I3D: what is cut, what is kept, what ranks better."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from svgan.errors import UserError
from svgan.latents.manifest import Latents, VideoCodes
from svgan.latents.shards import open_latents, write_latents
from svgan.metrics import fvd, i3d
from svgan.metrics.assess import Judge
from svgan.metrics.protocol import PROTOCOLS, Protocol, usual_precision
from svgan.metrics.windows import real_windows, rollouts
from svgan.motion.noise import ALL
from svgan.sampling.sampler import Sampler

SMALL = {"real_clips": 4, "precision": usual_precision("cpu")}
PROTOCOL = Protocol(name="svg-short", **SMALL)


@pytest.fixture(scope="module")
def latents(domain, tmp_path_factory) -> Latents:
    """Two videos of a smooth motion in the domain's W+."""
    torch.manual_seed(0)
    uri = tmp_path_factory.mktemp("codes") / "latents"
    t = np.arange(120)[:, None] / 12
    videos = []
    for name in ("a", "b"):
        layers = domain.generator.broadcast(domain.generator.map(torch.randn(3, 8))).numpy()
        weights = np.stack([np.ones_like(t), np.sin(t), np.cos(1.7 * t)], 1)[..., 0]
        videos.append(VideoCodes(name, np.arange(120), np.einsum("tk,kld->tld", weights, layers).astype(np.float32)))
    write_latents(uri, videos, domain=domain.digest, fps=25.0, components=16)
    return open_latents(uri, domain=domain.digest)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of the test's own that still has the network."""
    from svgan.assets import cache

    i3d_file = cache.path("i3d")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "i3d").symlink_to(i3d_file.parent)
    monkeypatch.setenv("SVGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@dataclass
class Replay(Sampler):
    """A sampler that shows windows of the footage, or their mirror image in time with noise."""

    latents: Latents
    noise: float = 0.0
    motion = None

    def stream(self, clips, length, seed, *, chunk, part=ALL):
        rng = np.random.default_rng(seed)
        starts = self.latents.windows(25)[rng.integers(0, len(self.latents.windows(25)), clips)]
        for begin in range(0, length, chunk):
            rows = starts[:, None] + (np.arange(begin, min(begin + chunk, length)) % 25)
            codes = self.latents.codes[rows]
            yield torch.from_numpy(codes + self.noise * rng.normal(size=codes.shape)).float()[part]


def score(sampler: Sampler, domain, latents: Latents) -> dict[str, float]:
    """FVD short and long of two clips."""
    figures: dict[str, float] = {}
    for name in ("svg-short", "svg-long"):
        judge = Judge(replace(PROTOCOLS[name], clips=2, **SMALL), domain, latents, strict=False)
        figures |= judge.measure(sampler).values()
    return figures


def test_stride_counts_back_from_the_rollouts_end(sampler):
    every_third = Protocol(name="p", clips=2, frames=9, stride=3, rollout=40)
    cut = next(rollouts(sampler, {"p": every_third}, seed=5))["p"]
    torch.testing.assert_close(cut, sampler.codes(2, 40, seed=5)[:, 15:40:3])


def test_real_windows_never_cross_a_video(latents):
    rows = real_windows(PROTOCOLS["svg-short"], latents)
    assert rows.shape == (256, 25)
    assert (np.diff(latents.video[rows], axis=1) == 0).all()
    np.testing.assert_array_equal(rows, real_windows(PROTOCOLS["svg-long"], latents))


def test_real_moments_are_those_of_the_rendered_windows_and_are_kept(domain, latents, own_cache):
    calls: list = []
    progress = lambda *args: calls.append(args)  # noqa: E731
    found = fvd.real_moments(PROTOCOL, domain, latents, progress=progress)
    assert calls[-1][1:] == (4, 4)
    network = i3d.load(precision=PROTOCOL.precision)
    clips = [domain.render(latents.codes[rows]) for rows in real_windows(PROTOCOL, latents)]
    features = network(torch.from_numpy(np.stack(clips))).numpy().astype(np.float64)
    np.testing.assert_allclose(found.mean, features.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.cov, np.cov(features.T), rtol=1e-2, atol=1e-4)

    calls.clear()
    again = fvd.real_moments(PROTOCOL, domain, latents, progress=progress)
    assert not calls, "the second time they must come out of the cache"
    np.testing.assert_allclose(again.mean, found.mean, rtol=1e-6)
    assert [p.name for p in (own_cache / "moments").iterdir()] == [fvd.moments_file(PROTOCOL, domain, latents, "wplus")]


def test_a_short_clips_windows_are_seen_once_and_count_as_often_as_drawn(domain, own_cache, tmp_path):
    codes = np.random.default_rng(0).normal(size=(27, 6, 8)).astype(np.float32)
    write_latents(tmp_path / "short", [VideoCodes("v", np.arange(27), codes)], domain=domain.digest, fps=25.0)
    short, seven = open_latents(tmp_path / "short"), replace(PROTOCOL, real_clips=7)
    calls: list = []
    found = fvd.real_moments(seven, domain, short, progress=lambda *args: calls.append(args))
    assert calls[-1][1:] == (3, 3), "27 frames have three windows of 25"
    clips = [domain.render(short.codes[rows]) for rows in real_windows(seven, short)]
    plain = fvd.moments_of(fvd.seen(fvd.seeing(i3d.load(precision=seven.precision)), clips, 7, "plain"), 2)
    assert found.count == plain.count == 7
    np.testing.assert_allclose(found.mean, plain.mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.cov, plain.cov, rtol=1e-2, atol=1e-3)


def test_original_needs_the_frames_in_the_domains_size(domain, latents, own_cache):
    with pytest.raises(UserError, match="svgan assets talking-face"):
        fvd.real_moments(PROTOCOL, domain, latents, "original")
    with pytest.raises(UserError, match=r"needs uint8 \(240, 16, 16, 3\)"):
        fvd.real_moments(PROTOCOL, domain, latents, "original", np.zeros((240, 8, 8, 3), np.uint8))


def test_another_detector_than_ours_is_refused(domain, latents, own_cache):
    other = replace(PROTOCOL, detector="i3d-kinetics400-logits/000000000000")
    with pytest.raises(UserError, match=r"its detector is .*/000000000000, the one here is .*/af5c50f0df57"):
        fvd.real_moments(other, domain, latents)
    assert not (own_cache / "moments").exists()


def test_scores_rank_replayed_footage_before_noise(domain, latents, own_cache):
    good, bad = score(Replay(latents), domain, latents), score(Replay(latents, noise=1.0), domain, latents)
    assert set(good) == {"fvd_short", "fvd_long"}
    for name in good:
        assert good[name] < 0.9 * bad[name]


def test_shipped_moments_serve_where_there_are_no_frames(domain, latents, own_cache, sampler):
    """Both references, with frames that are noisier than the re-rendering."""
    noise = np.random.default_rng(0).normal(scale=20, size=(240, 16, 16, 3))
    frames = (domain.render(latents.codes) + noise).clip(0, 255).astype(np.uint8)
    fvd.ship(domain, latents, frames, protocol=PROTOCOL, precisions=(PROTOCOL.precision,))
    assert len(list(domain.moments_folder.iterdir())) == 2
    (domain.moments_folder / "wplus-000000000000-000000000000.safetensors").write_bytes(b"of other weights")
    again: list = []
    fvd.ship(domain, latents, frames, protocol=PROTOCOL, progress=lambda *args: again.append(args))
    assert not again, "finished moments of the usual precision stay"
    assert len(list(domain.moments_folder.iterdir())) == 2
    figures = score(sampler, domain, latents)
    assert not (own_cache / "moments").exists(), "what ships is not made again"
    for name in ("fvd_short", "fvd_long", "fvd_short_original", "fvd_long_original"):
        assert np.isfinite(figures[name])
    replayed = score(Replay(latents), domain, latents)
    assert replayed["fvd_short"] < replayed["fvd_short_original"]
