"""What tests of a sampler's figures share: a random domain, codes that move in it, an untrained sampler.

Each file of tests brings its own `latents`.
"""

import shutil

import numpy as np
import pytest
import torch

from svgan.images.domain import Domain
from svgan.latents.manifest import Latents, VideoCodes
from svgan.latents.shards import open_latents, write_latents
from svgan.latents.spaces import make_space
from svgan.sampling.sampler import Sampler
from svgan.systems.stylevideogan.networks import make_motion
from svgan.training import recipes


@pytest.fixture(scope="module")
def domain(random_domain, tmp_path_factory) -> Domain:
    """A copy of the random domain that a file's tests may put moments into."""
    return Domain.load(shutil.copytree(random_domain, tmp_path_factory.mktemp("own") / "domain"))


@pytest.fixture(scope="module")
def sampler(latents: Latents) -> Sampler:
    torch.manual_seed(0)
    space = make_space("pca", latents, 8)
    return Sampler(make_motion(recipes.make("tiny", components=8, width=8, trunk=(8,)), 8).eval(), space, {})


def made_codes(domain: Domain, lengths, folder) -> Latents:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    layers = domain.generator.broadcast(domain.generator.map(torch.randn(4, 8))).numpy()
    videos = []
    for number, n in enumerate(lengths):
        t = np.arange(n) / 25
        waves = np.stack([np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) for f in (0.31, 0.73, 1.17)], 1)
        weights = np.concatenate([np.ones((n, 1)), waves + 0.02 * rng.normal(size=waves.shape)], 1)
        codes = np.einsum("tk,kld->tld", weights, layers)
        videos.append(VideoCodes(f"{number:03d}", np.arange(n), codes.astype(np.float32)))
    write_latents(folder / "latents", videos, domain=domain.digest, fps=25.0, components=16)
    return open_latents(folder / "latents", domain=domain.digest)
