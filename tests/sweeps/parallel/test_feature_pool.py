"""Figures by several workers of a real Ray: those of one process in every digit, also when a worker was lost."""

import contextlib
import os
import signal
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from svgan.errors import UserError
from svgan.images.domain import Domain
from svgan.latents.manifest import VideoCodes
from svgan.latents.shards import open_latents, write_latents
from svgan.latents.spaces import make_space
from svgan.metrics.protocol import PROTOCOLS, usual_precision
from svgan.reports.evaluation import assess
from svgan.sampling.sampler import Sampler
from svgan.systems.stylevideogan.networks import make_motion
from svgan.training import recipes

SHORT = replace(PROTOCOLS["svg-short"], clips=19, real_clips=6, frames=9, rollout=9, precision=usual_precision("cpu"))


@pytest.fixture
def world(random_domain, tmp_path, monkeypatch):
    """What `assess` is asked, on a cache of its own that has I3D alone."""
    from svgan.assets import cache

    network = cache.path("i3d").parent
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "i3d").symlink_to(network)
    monkeypatch.setenv("SVGAN_CACHE", str(tmp_path / "cache"))
    domain = Domain.load(random_domain)
    codes = np.cumsum(np.random.default_rng(0).normal(size=(60, 6, 8)), 0).astype(np.float32) * 0.3
    write_latents(tmp_path / "codes", [VideoCodes("v", np.arange(60), codes)], domain=domain.digest, fps=25)
    latents = open_latents(tmp_path / "codes")
    space = make_space("pca", latents, 8)
    sampler = Sampler(make_motion(recipes.make("tiny", components=8, width=8, trunk=(8,)), 8).eval(), space, {})
    asked = {"seed": 0, "strict": False, "frames": domain.render(latents.codes)}
    return (sampler, None, domain, latents), asked


def lose_a_worker(lost: list[int], seconds: float) -> None:
    """Kill the first process that looks at clips, once. seconds: for which one is waited for."""
    until = time.monotonic() + seconds
    while not lost:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.name().startswith("ray::extract"):
                    os.kill(process.pid, signal.SIGKILL)
                    lost.append(process.pid)
                    return
        if time.monotonic() > until:
            return
        time.sleep(0.02)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_figures_of_one_process(world, monkeypatch, tmp_path):

    from sweeps.parallel import feature_pool
    from sweeps.ray_runtime import session

    (sampler, _, domain, latents), asked = world
    told: list[tuple[str, int, int]] = []
    metrics = ("fvd", "kvd")
    lost: list[int] = []

    def progress(stage, done, total):
        told.append((stage, done, total))
        if stage == "generated clips" and done < total:
            # Two pieces were given out; of the third, which is given out then, somebody is at work or will be.
            lose_a_worker(lost, 0 if done <= 8 else 60)

    session.start(num_cpus=2, object_store_memory=100 * 2**20)
    try:
        with pytest.raises(UserError, match=r"each takes 3 CPU .* for which .* has no node"):
            feature_pool.FeaturePool(domain, 2, 3, 0)
        spread = feature_pool.FeaturePool(domain, 2, 1, 0).extractor
        other = replace(SHORT, detector="i3d/other")
        with pytest.raises(UserError, match="its detector is i3d/other"):
            assess(sampler, None, domain, latents, [other], metrics, **asked, progress=progress, spread=spread)
        told.clear()
        found = assess(sampler, None, domain, latents, [SHORT], metrics, **asked, progress=progress, spread=spread)
    finally:
        session.shut_down()
    assert lost
    assert [done for stage, done, total in told if (stage, total) == ("generated clips", 19)] in (
        [8, 16, 19],
        [8, 11, 19],
        [3, 11, 19],
    )
    assert {stage for stage, _, _ in told} >= {"real clips, wplus", "real clips, original", "generated clips"}
    monkeypatch.setenv("SVGAN_CACHE", str(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "i3d").symlink_to((tmp_path / "cache" / "i3d").resolve())
    alone = assess(sampler, None, domain, latents, [SHORT], metrics, **asked, progress=progress)
    assert found["figures"].keys() == {"fvd_short", "fvd_short_original", "kvd_short", "kvd_short_original"}
    assert found == alone
