"""Our StyleGAN2 against numbers made with rosinality's implementation and NVIDIA's (tests/vectors/README.md).

Covers what a wrong blur, padding, noise order, toRGB layer index, demodulation or truncation would change.
"""

import io
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from svgan.images.stylegan2 import Discriminator, Generator, StyleGAN2Config

VECTORS = Path(__file__).parents[1] / "vectors"
SIZES = {"resolution": 32, "w_dim": 32, "channels": {4: 32, 8: 32, 16: 24, 32: 16}}

ROSINALITY = [  # (pattern, our name); the first that matches the whole name wins
    (r"style\.(\d+)\.(weight|bias)", lambda m: f"mapping.{int(m[1]) - 1}.{m[2]}"),
    (r"input\.input", lambda m: "const"),
    (r"conv1\.(.+)", lambda m: f"convs.0.{styled(m[1])}"),
    (r"convs\.(\d+)\.(.+)", lambda m: f"convs.{int(m[1]) + 1}.{styled(m[2])}"),
    (r"to_rgb1\.(.+)", lambda m: f"rgbs.0.{styled(m[1])}"),
    (r"to_rgbs\.(\d+)\.(.+)", lambda m: f"rgbs.{int(m[1]) + 1}.{styled(m[2])}"),
    (r"noises\.noise_(\d+)", lambda m: f"convs.{m[1]}.noise"),
]


def styled(rest: str) -> str:
    return {"noise.weight": "noise_strength", "activate.bias": "bias"}.get(rest, rest).replace("modulation", "affine")


def from_rosinality(state: dict, latent_avg: torch.Tensor, shapes: dict) -> dict:
    ours = {"w_avg": latent_avg}
    for name, value in state.items():
        if name.endswith(".kernel"):
            continue
        ours_name = next(f(m) for pattern, f in ROSINALITY if (m := re.fullmatch(pattern, name)))
        ours[ours_name] = value.reshape(shapes[ours_name])
    return ours


def load_strict(module: torch.nn.Module, state: dict) -> torch.nn.Module:
    module.load_state_dict(state)
    return module.eval()


def close(ours: torch.Tensor, name: str, expected) -> None:
    np.testing.assert_allclose(ours.numpy(), expected[name], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_rosinality_checkpoint_gives_its_pictures():
    checkpoint = torch.load(VECTORS / "rosinality_stylegan2_32.pt", weights_only=True)
    expected = np.load(VECTORS / "rosinality_stylegan2_32_expected.npz")
    generator = Generator(StyleGAN2Config(mapping_layers=4, **SIZES))
    shapes = {k: v.shape for k, v in generator.state_dict().items()}
    load_strict(generator, from_rosinality(checkpoint["g_ema"], checkpoint["latent_avg"], shapes))
    z = torch.from_numpy(expected["z"])
    close(generator.map(z), "w", expected)
    close(generator(torch.from_numpy(expected["wplus"])), "image_const", expected)
    close(generator(generator.broadcast(generator.map(z, 0.7))), "image_truncated07", expected)


class StateOnly(pickle.Unpickler):
    """NVIDIA's network pickles as nested dicts of tensors: allow-listed names, the embedded source never run."""

    def find_class(self, module: str, name: str):
        allowed = {
            ("torch_utils.persistence", "_reconstruct_persistent_obj"): lambda meta: meta["state"],
            ("collections", "OrderedDict"): OrderedDict,
            ("dnnlib.util", "EasyDict"): dict,
            ("numpy", "dtype"): np.dtype,
            ("numpy._core.multiarray", "scalar"): np._core.multiarray.scalar,
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad, hooks: data,
            ("torch.storage", "_load_from_bytes"): lambda b: torch.load(io.BytesIO(b), weights_only=True),
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return allowed[module, name]


def flatten(module: dict, prefix: str = "") -> dict:
    own = {**module["_parameters"], **module["_buffers"]}
    flat = {prefix + k: v for k, v in own.items() if v is not None}
    for name, child in module["_modules"].items():
        flat |= flatten(child, f"{prefix}{name}.")
    return flat


NVIDIA_G = [
    (r"mapping\.fc(\d+)\.(weight|bias)", lambda m, n: f"mapping.{m[1]}.{m[2]}"),
    (r"mapping\.w_avg", lambda m, n: "w_avg"),
    (r"synthesis\.b4\.const", lambda m, n: "const"),
    (r"synthesis\.b(\d+)\.conv([01])\.(.+)", lambda m, n: f"convs.{2 * n(m[1]) + int(m[2]) - 1}.{nvidia(m[3])}"),
    (r"synthesis\.b(\d+)\.torgb\.(.+)", lambda m, n: f"rgbs.{n(m[1])}.{nvidia(m[2])}"),
]
NVIDIA_D = [
    (r"b32\.fromrgb\.(weight|bias)", lambda m, n: f"from_rgb.{m[1]}"),
    (r"b4\.(conv|fc|out)\.(weight|bias)", lambda m, n: f"{m[1]}.{m[2]}"),
    (r"b(\d+)\.(conv0|conv1|skip)\.(weight|bias)", lambda m, n: f"blocks.{3 - n(m[1])}.{m[2]}.{m[3]}"),
]


def nvidia(rest: str) -> str:
    return {"weight": "conv.weight", "noise_const": "noise"}.get(rest, rest).replace("affine", "conv.affine")


def from_nvidia(flat: dict, patterns: list, shapes: dict) -> dict:
    ours = {}
    for name, value in flat.items():
        if name.endswith("resample_filter"):
            continue
        position = lambda res: int(res).bit_length() - 3  # noqa: E731  4 -> 0, 8 -> 1, ...
        ours_name = next(f(m, position) for pattern, f in patterns if (m := re.fullmatch(pattern, name)))
        ours[ours_name] = value.reshape(shapes[ours_name])
    return ours


@pytest.fixture(scope="module")
def networks() -> dict:
    with open(VECTORS / "nvidia_stylegan2_ada_32.pkl", "rb") as f:
        return StateOnly(f).load()


def shapes_of(module: torch.nn.Module) -> dict:
    return {k: v.shape for k, v in module.state_dict().items()}


def channels(flat: dict, pattern: str) -> dict[int, int]:
    return {int(m[1]): len(v) for k, v in flat.items() if (m := re.fullmatch(pattern, k))}


@torch.no_grad()
def test_nvidia_pickle_gives_its_pictures(networks):
    expected = np.load(VECTORS / "nvidia_stylegan2_ada_32_expected.npz")
    flat = flatten(networks["G_ema"])
    widths = channels(flat, r"synthesis\.b(\d+)\.conv1\.bias")
    generator = Generator(StyleGAN2Config(resolution=32, w_dim=32, mapping_layers=3, channels=widths))
    load_strict(generator, from_nvidia(flat, NVIDIA_G, shapes_of(generator)))
    w = generator.broadcast(generator.map(torch.from_numpy(expected["z"])))
    close(w, "w", expected)
    codes = torch.from_numpy(expected["wplus"])
    close(generator(codes), "image_const", expected)
    close(generator(codes, noise="none"), "image_none", expected)


@torch.no_grad()
def test_nvidia_pickle_gives_its_discriminator_logits(networks):
    expected = np.load(VECTORS / "nvidia_stylegan2_ada_32_expected.npz")
    flat = flatten(networks["D"])
    widths = {4: len(flat["b4.conv.bias"])} | channels(flat, r"b(\d+)\.conv0\.bias")
    discriminator = Discriminator(StyleGAN2Config(resolution=32, w_dim=32, mapping_layers=3, channels=widths))
    load_strict(discriminator, from_nvidia(flat, NVIDIA_D, shapes_of(discriminator)))
    close(discriminator(torch.from_numpy(expected["image_const"]))[:, None], "d_logits", expected)
