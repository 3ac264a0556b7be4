"""Our StyleGAN2, with weights that `svgan import` reads, against numbers made with rosinality's implementation and
NVIDIA's (tests/vectors/README.md).

Covers what a wrong blur, padding, noise order, toRGB layer index, demodulation or truncation would change.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from svgan.images.foreign_generators import find_generator
from svgan.images.stylegan2 import Discriminator, StyleGAN2Config
from svgan.io.torch_file import read, state_of

VECTORS = Path(__file__).parents[1] / "vectors"
ROSINALITY, NVIDIA = VECTORS / "rosinality_stylegan2_32.pt", VECTORS / "nvidia_stylegan2_ada_32.pkl"


def close(ours: torch.Tensor, name: str, expected) -> None:
    assert np.abs(ours.numpy() - expected[name]).max() < 1e-4


@torch.no_grad()
def test_rosinality_checkpoint_gives_its_pictures():
    expected = np.load(VECTORS / "rosinality_stylegan2_32_expected.npz")
    found = find_generator(read(ROSINALITY), ROSINALITY)
    assert (found.average, found.ignored, found.remarks) == ("from the file", [], [])
    generator, z = found.generator, torch.from_numpy(expected["z"])
    close(generator.map(z), "w", expected)
    close(generator(torch.from_numpy(expected["wplus"])), "image_const", expected)
    close(generator(generator.broadcast(generator.map(z, 0.7))), "image_truncated07", expected)


@pytest.fixture(scope="module")
def networks() -> dict:
    return read(NVIDIA)


@torch.no_grad()
def test_nvidia_pickle_gives_its_pictures(networks):
    expected = np.load(VECTORS / "nvidia_stylegan2_ada_32_expected.npz")
    found = find_generator(networks, NVIDIA)
    assert (found.average, found.ignored) == ("from the file", ["G", "D", "augment_pipe", "training_set_kwargs"])
    generator, z = found.generator, torch.from_numpy(expected["z"])
    w = generator.broadcast(generator.map(z)).clone()
    close(w, "w", expected)
    w[:, :4] = generator.map(z, 0.7)[:, None]
    close(w, "w_truncated_psi07_cutoff4", expected)
    codes = torch.from_numpy(expected["wplus"])
    close(generator(codes), "image_const", expected)
    close(generator(codes, noise="none"), "image_none", expected)


@torch.no_grad()
def test_nvidia_pickle_gives_its_discriminator_logits(networks):
    expected = np.load(VECTORS / "nvidia_stylegan2_ada_32_expected.npz")
    flat = {k: v for k, v in state_of(networks["D"], NVIDIA).items() if not k.endswith("resample_filter")}
    widths = {int(m[1]): len(v) for k, v in flat.items() if (m := re.fullmatch(r"b(\d+)\.conv0?\.bias", k))}
    discriminator = Discriminator(StyleGAN2Config(resolution=32, w_dim=32, mapping_layers=3, channels=widths))
    shapes = {k: v.shape for k, v in discriminator.state_dict().items()}

    def ours(name: str) -> str:
        name = name.replace("b32.fromrgb", "from_rgb").replace("b4.", "")
        return re.sub(r"b(\d+)\.", lambda m: f"blocks.{6 - int(m[1]).bit_length()}.", name)

    discriminator.load_state_dict({ours(k): v.reshape(shapes[ours(k)]) for k, v in flat.items()})
    close(discriminator(torch.from_numpy(expected["image_const"]))[:, None], "d_logits", expected)
