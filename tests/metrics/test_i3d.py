"""I3D against the reference numbers (tests/vectors/README.md) and its fast forms against the plain ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from formula_weights import formula_weight
from safetensors.torch import load_file

from svgan.assets import cache
from svgan.errors import UserError
from svgan.metrics import i3d

VECTORS = Path(__file__).parents[1] / "vectors"


def formula_videos(seed: int, count: int, frames: int) -> torch.Tensor:
    """uint8 [n, T, 224, 224, 3]."""
    r = np.random.RandomState(seed)
    t, y, x = np.mgrid[0:frames, 0:224, 0:224]
    videos = []
    for _ in range(count):
        f, p = r.uniform(0.02, 0.2, (3, 3)), r.uniform(0, 6.28, (3, 3))
        waves = [
            127.5
            + 80 * np.sin(f[c, 0] * x + p[c, 0] + 0.3 * t) * np.cos(f[c, 1] * y + p[c, 1])
            + 40 * np.sin(f[c, 2] * (x + y) + p[c, 2])
            for c in range(3)
        ]
        videos.append(np.stack(waves, -1).round().clip(0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(videos))


@pytest.fixture(scope="module")
def kinetics() -> dict[str, torch.Tensor]:
    return load_file(cache.path("i3d"))


def assert_logits(network: i3d.I3D, file: str) -> None:
    expected = np.load(VECTORS / file)
    np.testing.assert_allclose(network(formula_videos(0, 2, 16)), expected["logits16"], atol=1e-3)
    np.testing.assert_allclose(network(formula_videos(3, 1, 25)), expected["logits25"], atol=1e-3)


def test_formula_weights_in_the_usual_layout_give_the_expected_logits():
    shapes = json.loads((VECTORS / "i3d_400_shapes.json").read_text())
    assert_logits(i3d.build({k: formula_weight(k, v, 2) for k, v in shapes.items()}), "i3d_400_expected.npz")


def test_kinetics_weights_give_the_expected_logits(kinetics):
    assert sum(v.numel() for k, v in kinetics.items()) == pytest.approx(12.7e6, rel=0.01)
    assert_logits(i3d.build(kinetics), "i3d_kinetics400_expected.npz")


def test_bfloat16_stays_within_two_percent(kinetics):
    expected = np.load(VECTORS / "i3d_kinetics400_expected.npz")["logits16"]
    found = i3d.build(kinetics, precision="bfloat16")(formula_videos(0, 2, 16)).numpy()
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize("size", [(9, 14, 14), (10, 15, 13)])
def test_stem_in_cubes_equals_the_plain_strided_convolution(size):
    x, weight = torch.randn(2, 3, *size), torch.randn(5, 3, 7, 7, 7)
    pads = [p for n in reversed(size) for p in i3d.same_padding(n, 7, 2)]
    plain = F.conv3d(F.pad(x, pads), weight, stride=2)
    torch.testing.assert_close(F.conv3d(i3d.cubes(x), i3d.cube_weight(weight)), plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "expected"),
    [(224, 7, 2, (2, 3)), (25, 7, 2, (3, 3)), (112, 3, 2, (0, 1)), (13, 3, 1, (1, 1)), (7, 2, 2, (0, 1))],
)
def test_same_padding(length, kernel, stride, expected):
    assert i3d.same_padding(length, kernel, stride) == expected


def test_preprocess_keeps_a_full_size_video_and_scales_it():
    video = formula_videos(1, 1, 2)
    np.testing.assert_allclose(i3d.preprocess(video), (video.permute(0, 4, 1, 2, 3).float() / 127.5 - 1))
    assert i3d.preprocess(video[:, :, ::7, ::7]).shape == (1, 3, 2, 224, 224)


def test_missing_weights_and_short_videos_are_named():
    with pytest.raises(UserError, match="Conv3d_1a_7x7"):
        i3d.build({})
    with pytest.raises(UserError, match="at least 9 frames"):
        i3d.I3D()(torch.zeros(1, 8, 16, 16, 3, dtype=torch.uint8))


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-2), ("bfloat16", 0.02)])
def test_cuda_agrees(kinetics, precision, tolerance):
    expected = np.load(VECTORS / "i3d_kinetics400_expected.npz")["logits16"]
    found = i3d.build(kinetics, device="cuda", precision=precision)(formula_videos(0, 2, 16)).cpu().numpy()
    assert np.linalg.norm(found - expected) < tolerance * np.linalg.norm(expected)
