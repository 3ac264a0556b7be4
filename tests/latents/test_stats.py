from pathlib import Path

import numpy as np
import pytest
import torch

from svgan.errors import UserError
from svgan.latents.manifest import Latents, VideoCodes
from svgan.latents.shards import open_latents, write_latents
from svgan.latents.spaces import floor_spread, make_space, space_from_state
from svgan.latents.stats import principal_axes


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Latents:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 24)) + 3 + 0.01 * rng.normal(size=(200, 24))
    folder = Path(tmp_path_factory.mktemp("latents")) / "set"
    videos = [VideoCodes("a", np.arange(200), codes.reshape(200, 4, 6).astype(np.float32))]
    write_latents(folder, videos, domain="d", fps=25, components=6)
    return open_latents(folder)


def test_axes_by_covariance_gram_and_power_iteration_agree():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(300, 80)) * 0.9 ** np.arange(80)).astype(np.float32)
    x -= x.mean(0)
    reference = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    wide = np.concatenate([x, np.zeros((300, 400), np.float32)], 1)
    for data, limit in [(x, 2048), (wide, 2048), (x, 10)]:
        axes, scale = principal_axes(data, 8, limit)
        np.testing.assert_allclose(axes @ axes.T, np.eye(8), atol=1e-5)
        np.testing.assert_allclose(scale, reference[1][:8] / np.sqrt(300), rtol=1e-4)
        np.testing.assert_allclose(np.abs(np.sum(axes[:, :80] * reference[2][:8], 1)), 1, atol=1e-3)


def test_more_components_than_frames_are_cut():
    axes, scale = principal_axes(np.eye(5, 12, dtype=np.float32) - 0.2, 64)
    assert axes.shape == (4, 12)
    assert scale.shape == (4,)


def test_wplus_is_standardised_and_exact(latents: Latents):
    space = make_space("wplus", latents)
    codes = torch.from_numpy(latents.codes)
    x = space.encode(codes)
    assert x.shape == (200, space.width) == (200, 24)
    torch.testing.assert_close(x.mean(0), torch.zeros(24), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std(0, unbiased=False), torch.ones(24), atol=1e-3, rtol=0)
    torch.testing.assert_close(space.decode(x), codes, atol=1e-5, rtol=0)


def test_pca_keeps_distances_and_inverts_on_its_span(latents: Latents):
    space = make_space("pca", latents, 6)
    codes = torch.from_numpy(latents.codes)
    x = space.encode(codes.reshape(20, 10, 4, 6))
    assert x.shape == (20, 10, 6)
    spread = space.spread
    assert spread[0] == 1
    assert (spread.diff() <= 0).all()
    torch.testing.assert_close(torch.cov(x.flatten(0, 1).T, correction=0), spread.square().diag(), atol=1e-3, rtol=0)
    far = (codes[0] - codes[100]).norm() / (space.scale[0] * (x[0, 0] - x[10, 0]).norm())
    assert far == pytest.approx(1, abs=0.02)  # W+'s own distances, up to one factor
    torch.testing.assert_close(space.encode(space.decode(x)), x, atol=1e-4, rtol=0)
    assert (space.decode(x).flatten(0, 1) - codes).abs().max() < 0.1  # what six components miss is the 0.01 noise
    assert make_space("pca", latents, 2).width == 2


def test_still_coordinates_are_floored_not_blown_up():
    assert floor_spread(np.array([2.0, 0.0, 1e-9])).tolist() == pytest.approx([2.0, 2e-3, 2e-3])
    assert (floor_spread(np.zeros(3)) > 0).all()


@pytest.mark.parametrize("name", ["wplus", "pca"])
def test_a_space_survives_its_state(latents: Latents, name: str):
    space = make_space(name, latents)
    again = space_from_state(space.spec(), space.state_dict())
    codes = torch.from_numpy(latents.codes)
    assert torch.equal(space.encode(codes), again.encode(codes))
    assert not list(space.parameters())


def test_bad_spaces(latents: Latents):
    with pytest.raises(UserError, match="components: 7, but these codes carry 1 to 6"):
        make_space("pca", latents, 7)
    with pytest.raises(UserError, match="one of wplus, pca"):
        make_space("z", latents)
