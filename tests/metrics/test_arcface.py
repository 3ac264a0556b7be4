"""ArcFace: a checkpoint of random weights in the layout of InsightFace_Pytorch's; the real one cannot be had here."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from svgan.errors import UserError
from svgan.metrics import arcface


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """A state dict with the reference's names: its dropout, number 1 of the output layer, has no tensors."""
    with torch.device("meta"):
        network = arcface.ArcFace()
    draw = torch.Generator().manual_seed(0)
    made = {}
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            made[name] = torch.rand(value.shape, generator=draw) + 0.5
        elif not name.endswith("num_batches_tracked"):
            made[name] = torch.randn(value.shape, generator=draw) / max(1, value[0].numel()) ** 0.5
    return made


def test_a_checkpoint_gives_descriptors_of_length_one(weights, tmp_path):
    assert weights["output_layer.3.weight"].shape == (512, 25088)
    assert {"output_layer.0.weight", "output_layer.4.running_mean", "body.23.res_layer.5.fc2.weight"} <= set(weights)
    torch.save(weights, tmp_path / "ir.pth")
    seen = arcface.extractor(tmp_path / "ir.pth")
    clips = np.random.default_rng(0).integers(0, 255, (1, 9, 64, 64, 3), np.uint8)
    found = seen.see(clips)
    assert found.shape == (1, 8, 512)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-5)
    network = arcface.load(tmp_path / "ir.pth")
    maps = network.body(network.input_layer(arcface.cropped(clips[0, :1])))
    x = F.batch_norm(
        maps, *(weights[f"output_layer.0.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    )
    x = F.linear(x.flatten(1), weights["output_layer.3.weight"], weights["output_layer.3.bias"])
    x = F.batch_norm(
        x, *(weights[f"output_layer.4.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    )
    np.testing.assert_allclose(found[0, 0], F.normalize(x)[0], rtol=1e-3, atol=1e-5)


def test_the_crop_is_the_face_of_an_aligned_picture():
    picture = np.zeros((1, 256, 256, 3), np.uint8)
    picture[:, 35 : 35 + 188, 32 : 32 + 188] = 255
    torch.testing.assert_close(arcface.cropped(picture), torch.ones(1, 3, 112, 112))
    assert arcface.cropped(picture[:, ::4, ::4]).shape == (1, 3, 112, 112)


def test_alike_is_near_one():
    one, other = np.eye(512)[:2]
    assert arcface.within(np.stack([one, one, one])) == pytest.approx(1)
    assert arcface.within(np.stack([one, other])) == pytest.approx(0)
    assert arcface.to_subject(np.stack([one, one]), np.stack([one] * 5)) == pytest.approx(1)
    assert arcface.to_subject(np.stack([one, other]), np.stack([one, other])) == pytest.approx(0.5**0.5)


def test_other_files_are_one_line(tmp_path):
    for content, words in (
        ([1, 2], "not a state_dict"),
        ({"body.0.weight": torch.zeros(3)}, "input_layer.0.weight is missing"),
        ({"input_layer.0.weight": torch.zeros(3)}, r"input_layer.0.weight is \[3\], needs \[64, 3, 3, 3\]"),
    ):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(UserError, match=f"--arcface .*{words}"):
            arcface.load(tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"missing\.pth"):
        arcface.load(tmp_path / "missing.pth")
