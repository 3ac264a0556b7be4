"""pSp's encoder against numbers of the reference implementation (tests/vectors/README.md), e4e's against pSp's."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import psp, small_psp
from formula_weights import formula_weight
from torch import nn

from svgan.errors import UserError
from svgan.images.psp_encoder import PSPEncoder, find_encoder
from svgan.io.torch_file import read

VECTORS = Path(__file__).parents[1] / "vectors"
SHAPES = json.loads((VECTORS / "psp_irse50_shapes.json").read_text())


def picture() -> torch.Tensor:
    yy, xx = np.mgrid[0:256, 0:256].astype(np.float32)
    return torch.from_numpy(np.stack([np.sin(xx / 17 + c) * np.cos(yy / (23 + c)) for c in range(3)])[None])


class Silent(nn.Module):
    """In place of a head that a test leaves out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(len(x), 512)


@pytest.mark.parametrize("heads", [(0, 6, 17), pytest.param(tuple(range(18)), marks=pytest.mark.slow)])
@torch.no_grad()
def test_codes_are_the_reference_implementations(heads):
    """Three heads, one a map of the pyramid, of 18: the weights of all are 267 million numbers to draw."""
    expected = np.load(VECTORS / "psp_irse50_expected.npz")
    with torch.device("meta"):
        encoder = PSPEncoder(18)
    assert {f"encoder.{k}": list(v.shape) for k, v in encoder.state_dict().items() if k != "latent_avg"} == SHAPES
    for n in set(range(18)) - set(heads):
        encoder.styles[n] = Silent()
    names = {name: f"encoder.{name}" for name in encoder.state_dict() if name != "latent_avg"}
    weights = {name: formula_weight(full, SHAPES[full], 1) for name, full in names.items()}
    encoder.load_state_dict(weights | {"latent_avg": torch.from_numpy(expected["latent_avg"])}, assign=True)
    ours = encoder.eval()(picture())[0].numpy()
    assert np.abs(ours - expected["wplus"])[list(heads)].max() < 1e-3
    assert np.abs(ours - expected["latent_avg"] - expected["codes"])[list(heads)].max() < 1e-3


small = pytest.fixture(small_psp)


@torch.no_grad()
def test_e4e_adds_every_other_head_to_the_first(small, tmp_path):
    torch.save(psp(14, "Encoder4Editing"), tmp_path / "e4e.pt")
    torch.save(psp(14), tmp_path / "psp.pt")
    both = [find_encoder(read(tmp_path / name), tmp_path / name).encoder for name in ("e4e.pt", "psp.pt")]
    heads = both[1].heads(picture())
    assert torch.equal(both[0].heads(picture()), heads)
    codes = [encoder(picture()) - encoder.latent_avg for encoder in both]
    assert codes[0].shape == (1, 14, 32)
    torch.testing.assert_close(codes[1], heads)
    torch.testing.assert_close(codes[0][:, 0], heads[:, 0])
    for n in range(1, 14):
        torch.testing.assert_close(codes[0][:, n], heads[:, 0] + heads[:, n])


def refused(tree: dict, tmp_path: Path, match: str) -> None:
    torch.save(tree, tmp_path / "x.pt")
    with pytest.raises(UserError, match=match):
        find_encoder(read(tmp_path / "x.pt"), tmp_path / "x.pt")


def test_encoders_that_are_not_ours_are_refused(small, tmp_path):
    good = psp(14)
    refused({"g_ema": {}, "d": 1}, tmp_path, r"no pSp or e4e encoder .*; it holds g_ema, d$")
    refused(psp(14, "BackboneEncoderUsingLastLayerIntoW"), tmp_path, "encoder_type Backbone.*known are GradualStyle")
    refused({k: v for k, v in good.items() if k != "opts"}, tmp_path, "encoder_type None")
    refused(psp(14, learn_in_w=True), tmp_path, "learn_in_w")
    few = {k: v for k, v in good["state_dict"].items() if k != "encoder.latlayer1.bias"}
    refused(good | {"state_dict": few}, tmp_path, r"1 tensors are missing, as encoder\.latlayer1\.bias")
    odd = good["state_dict"] | {"encoder.input_layer.0.weight": torch.zeros(16, 19, 3, 3)}
    refused(good | {"state_dict": odd}, tmp_path, r"encoder\.input_layer\.0\.weight is \[16, 19, 3, 3\], its place")
    odd = good["state_dict"] | {"encoder.more": torch.zeros(2)}
    refused(good | {"state_dict": odd}, tmp_path, r"encoder\.more .* no place in an IR-SE-50")
    spoilt = good["state_dict"] | {"encoder.latlayer1.bias": torch.full((32,), torch.nan)}
    refused(good | {"state_dict": spoilt}, tmp_path, r"encoder\.latlayer1\.bias holds numbers that are not finite")
    refused(good | {"latent_avg": torch.zeros(18, 32)}, tmp_path, r"latent_avg is \[18, 32\], for 14 layers")


def test_the_average_code_may_be_one_row_or_many_or_none(small, tmp_path):
    good = psp(14)
    one, many = good | {"latent_avg": good["latent_avg"][0]}, good
    for tree, average in (
        (one, "from the file"),
        (many, "from the file"),
        (psp(14, start_from_latent_avg=False), "its options say none"),
    ):
        torch.save(tree, tmp_path / "x.pt")
        found = find_encoder(read(tmp_path / "x.pt"), tmp_path / "x.pt")
        assert found.average == average
        wanted = good["latent_avg"] if average == "from the file" else torch.zeros(14, 32)
        assert torch.equal(found.encoder.latent_avg, wanted)
    del good["latent_avg"]
    torch.save(good, tmp_path / "x.pt")
    assert find_encoder(read(tmp_path / "x.pt"), tmp_path / "x.pt").average is None
