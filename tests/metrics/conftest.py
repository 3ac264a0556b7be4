"""What tests of a sampler's figures share; each file brings its own `latents`."""

import shutil

import pytest
import torch

from svgan import recipes
from svgan.images.domain import Domain
from svgan.latents.shards import Latents
from svgan.latents.stats import make_space
from svgan.motion import make_motion
from svgan.sample import Sampler


@pytest.fixture(scope="module")
def domain(random_domain, tmp_path_factory) -> Domain:
    """A copy of the random domain that a file's tests may put moments into."""
    return Domain.load(shutil.copytree(random_domain, tmp_path_factory.mktemp("own") / "domain"))


@pytest.fixture(scope="module")
def sampler(latents: Latents) -> Sampler:
    torch.manual_seed(0)
    space = make_space("pca", latents, 8)
    return Sampler(make_motion(recipes.tiny(components=8, width=8, trunk=(8,)), 8).eval(), space, {})
