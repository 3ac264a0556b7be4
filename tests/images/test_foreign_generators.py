"""Generators found in checkpoints: what is read of each layout, and which are refused, with the reason."""

from pathlib import Path

import pytest
import torch
from checkpoint_files import Module, nvidia, psp, rosinality, save_nvidia, small_psp

from svgan.errors import UserError
from svgan.images.foreign_generators import FoundGenerator, find_generator
from svgan.images.stylegan2 import Generator, StyleGAN2Config
from svgan.io.torch_file import read

WIDTHS = {4: 8, 8: 8, 16: 6}
small = pytest.fixture(small_psp)


def found_in(tree: dict, tmp_path: Path) -> FoundGenerator:
    torch.save(tree, tmp_path / "x.pt")
    return find_generator(read(tmp_path / "x.pt"), tmp_path / "x.pt")


def found_of(network: Module, tmp_path: Path, protocol: int = 4) -> FoundGenerator:
    path = save_nvidia(tmp_path / "x.pkl", network, protocol)
    return find_generator(read(path), path)


def test_sizes_come_from_shapes(tmp_path):
    found = found_in({"g_ema": rosinality(12, WIDTHS, 3), "latent_avg": torch.arange(12.0)}, tmp_path)
    wanted = StyleGAN2Config(resolution=16, w_dim=12, mapping_layers=3, channels=WIDTHS)
    assert found.generator.config == wanted
    assert found.generator.w_avg.tolist() == list(range(12))
    assert found_of(nvidia(12, WIDTHS, 3), tmp_path).generator.config == wanted


@torch.no_grad()
def test_both_layouts_of_the_same_weights_make_the_same_pictures(tmp_path):
    """Ours are kept by name; here every tensor of the one is put into the other by hand."""
    network, state = nvidia(12, WIDTHS, 2), rosinality(12, WIDTHS, 2)
    blocks = network.state["_modules"]["synthesis"].state["_modules"]

    def take(layer: Module, name: str, noise: int | None) -> None:
        affine = layer.state["_modules"]["affine"].state["_parameters"]
        state[f"{name}.conv.weight"] = layer.state["_parameters"]["weight"][None]
        for kind in ("weight", "bias"):
            state[f"{name}.conv.modulation.{kind}"] = affine[kind]
        if noise is None:
            state[f"{name}.bias"] = layer.state["_parameters"]["bias"].reshape(1, 3, 1, 1)
        else:
            state[f"{name}.activate.bias"] = layer.state["_parameters"]["bias"]
            state[f"{name}.noise.weight"] = layer.state["_parameters"]["noise_strength"][None]
            state[f"noises.noise_{noise}"] = layer.state["_buffers"]["noise_const"][None, None]

    for n, side in enumerate((4, 8, 16)):
        layers = blocks[f"b{side}"].state["_modules"]
        take(layers["torgb"], f"to_rgbs.{n - 1}" if n else "to_rgb1", None)
        take(layers["conv1"], f"convs.{2 * n - 1}" if n else "conv1", 2 * n)
        if n:
            take(layers["conv0"], f"convs.{2 * n - 2}", 2 * n - 1)
    state["input.input"] = blocks["b4"].state["_parameters"]["const"][None]
    codes = torch.randn(2, 6, 12)
    pictures = [found.generator(codes) for found in (found_of(network, tmp_path), found_in({"g_ema": state}, tmp_path))]
    torch.testing.assert_close(pictures[0], pictures[1])


def test_an_average_code_that_is_missing_is_computed_and_said(tmp_path):
    found = found_in({"g_ema": rosinality(12, WIDTHS, 2)}, tmp_path)
    assert found.average.startswith("not in the file: computed from the mapping network")
    z = torch.randn(200_000, 12, generator=torch.Generator().manual_seed(5))
    w = found.generator.map(z)
    assert (found.generator.w_avg - w.mean(0)).abs().max() < 5 * float(w.std()) / 100


def test_a_file_without_noise_maps_gets_some_for_good(tmp_path):
    state = {k: v for k, v in rosinality(12, WIDTHS, 2).items() if not k.startswith("noises.")}
    first, second = found_in({"g_ema": state}, tmp_path), found_in({"g_ema": state}, tmp_path)
    assert first.remarks == ["noise maps: none in the file, drawn once with seed 0"]
    assert torch.equal(first.generator.convs[3].noise, second.generator.convs[3].noise)
    assert first.generator.convs[3].noise.std() > 0.5


def test_a_network_without_noise_has_none(tmp_path):
    found = found_of(nvidia(12, WIDTHS, 2, noise=False), tmp_path)
    assert found.remarks == ["noise maps: the network was made without"]
    codes = torch.randn(1, 6, 12)
    assert torch.equal(found.generator(codes), found.generator(codes, noise="none"))


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_pickles_of_every_protocol_are_read(protocol, tmp_path):
    """NVIDIA's own were written by Python 3.7, in protocol 3."""
    assert found_of(nvidia(12, WIDTHS, 2), tmp_path, protocol).generator.config.resolution == 16


def test_the_rate_of_the_mapping_and_the_clamp_are_its_constructors(tmp_path):
    network = nvidia(12, WIDTHS, 2, conv_clamp=256)
    for layer in network.state["_modules"]["mapping"].state["_modules"].values():
        layer.state["bias_gain"] = 0.1
    config = found_of(network, tmp_path).generator.config
    assert (config.mapping_lr, config.clamp) == (0.1, 256.0)


@torch.no_grad()
def test_a_clamp_holds_every_layers_output():
    torch.manual_seed(0)
    clamped = Generator(StyleGAN2Config(resolution=16, w_dim=12, mapping_layers=1, channels=WIDTHS, clamp=0.5))
    free = Generator(StyleGAN2Config(resolution=16, w_dim=12, mapping_layers=1, channels=WIDTHS))
    free.load_state_dict(clamped.state_dict())
    seen: dict[str, list[float]] = {}
    for name, generator in (("clamped", clamped), ("free", free)):
        for layer in (*generator.convs, *generator.rgbs):
            layer.register_forward_hook(
                lambda _, __, out, name=name: seen.setdefault(name, []).append(float(out.abs().max()))
            )
        generator(torch.randn(1, 6, 12))
    assert len(seen["clamped"]) == 8
    assert max(seen["clamped"]) <= 0.5
    assert min(seen["free"]) > 0.5


def test_the_decoder_of_a_psp_checkpoint_is_a_generator(small, tmp_path):
    state = rosinality(32, WIDTHS, 2)
    tree = psp(6, decoder=state)
    found = found_in(tree, tmp_path)
    assert found.layout == "the decoder of a pSp checkpoint"
    assert torch.equal(found.generator.w_avg, tree["latent_avg"][0])
    assert torch.equal(found.generator.const, state["input.input"][0])


def refused(tree: dict, tmp_path: Path, match: str) -> None:
    with pytest.raises(UserError, match=match):
        found_in(tree, tmp_path)


def test_unknown_layouts_say_what_they_hold(small, tmp_path):
    refused({"model": {}, "epoch": 3}, tmp_path, r"no generator of a known layout .*; it holds model, epoch$")
    refused({str(n): n for n in range(20)}, tmp_path, r"it holds 0, 1, 2, 3, 4, 5, 6, 7 and 12 more")
    refused({}, tmp_path, "it holds nothing")
    refused([torch.zeros(2)], tmp_path, "it holds a list")
    refused({"g_ema": {"weight": torch.zeros(2)}}, tmp_path, r"rosinality's layout .*; it holds weight$")
    refused(psp(6), tmp_path, "an encoder without a generator; give a generator's checkpoint, and this as --encoder")


def test_generators_that_ours_cannot_be_are_refused(tmp_path):
    good = rosinality(12, WIDTHS, 2)

    def with_(**changes: torch.Tensor | None) -> dict:
        names = {name.replace("__", "."): value for name, value in changes.items()}
        return {"g_ema": {k: v for k, v in (good | names).items() if v is not None}}

    refused(with_(input__input=None), tmp_path, r"rosinality's layout")
    refused(with_(conv1__activate__bias=None), tmp_path, r"1 tensors are missing, convs\.0\.bias")
    refused(with_(conv1__more=torch.zeros(2)), tmp_path, r"conv1\.more has no place in a StyleGAN2")
    refused(
        with_(conv1__activate__bias=torch.zeros(9)), tmp_path, r"conv1\.activate\.bias is \[9\], its place is \[8\]"
    )
    refused(with_(conv1__activate__bias=torch.full((8,), torch.inf)), tmp_path, "not finite; the checkpoint is spoilt")
    other = torch.outer(*[torch.tensor([1.0, 2.0, 2.0, 1.0])] * 2) / 9
    refused(with_(convs__0__conv__blur__kernel=other), tmp_path, r"blur\.kernel is another resampling filter")


def test_networks_of_nvidias_that_ours_cannot_be_are_refused(tmp_path):
    def refuse(network: Module, match: str) -> None:
        with pytest.raises(UserError, match=match):
            found_of(network, tmp_path)

    refuse(nvidia(12, WIDTHS, 2, architecture="resnet"), "architecture resnet, not supported; skip is")
    refuse(nvidia(12, WIDTHS, 2, activation="relu"), "activation relu, lrelu, not supported; lrelu is")
    for key, value, match in (
        ("c_dim", 10, "10 classes, not supported yet; 0 are"),
        ("img_channels", 1, "1 colour channels, not supported yet"),
        ("z_dim", 64, "z_dim 64 and w_dim 12 differ"),
    ):
        network = nvidia(12, WIDTHS, 2)
        network.state[key] = value
        refuse(network, match)
    network = nvidia(12, WIDTHS, 2)
    network.state["_modules"]["synthesis"] = Module(
        "SynthesisNetwork", children={"input": Module("SynthesisInput"), "L0_36_512": Module("SynthesisLayer")}
    )
    refuse(network, r"layers of StyleGAN3 \(R or T\), not supported yet; give a StyleGAN2 configuration")
    refuse(Module("Generator", z_dim=12, w_dim=12), "G_ema is no StyleGAN2 generator; it holds nothing")
