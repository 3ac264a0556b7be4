"""Checkpoints of random weights in the layouts of rosinality, NVIDIA, pSp and e4e, of any size.

The real ones cannot be fetched here; tests/vectors holds small ones made by the reference implementations.
"""

import contextlib
import itertools
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = "raise RuntimeError('this checkpoint executed its embedded module source')\n"
FILTER = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0])] * 2) / 64


def channels(resolution: int, base: int = 32768, most: int = 512) -> dict[int, int]:
    """Widths by resolution of configuration F (channel multiplier 2)."""
    return {2**k: min(base // 2**k, most) for k in range(2, resolution.bit_length())}


def rosinality(w_dim: int, widths: Mapping[int, int], layers: int = 8) -> dict[str, Tensor]:
    """A state dict of rosinality's Generator."""
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    def conv(name: str, inputs: int, outputs: int, size: int) -> dict[str, Tensor]:
        return {
            f"{name}.conv.weight": normal(1, outputs, inputs, size, size),
            f"{name}.conv.modulation.weight": normal(inputs, w_dim),
            f"{name}.conv.modulation.bias": 1 + 0.1 * normal(inputs),
        }

    def styled(name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
        return conv(name, inputs, outputs, 3) | {
            f"{name}.noise.weight": 0.1 * normal(1),
            f"{name}.activate.bias": 0.1 * normal(outputs),
        }

    state: dict[str, Tensor] = {}
    for n in range(1, layers + 1):
        state |= {f"style.{n}.weight": 100 * normal(w_dim, w_dim), f"style.{n}.bias": 10 * normal(w_dim)}
    first = widths[4]
    state |= {"input.input": normal(1, first, 4, 4), **styled("conv1", first, first)}
    state |= {"to_rgb1.bias": 0.1 * normal(1, 3, 1, 1), **conv("to_rgb1", first, 3, 1)}
    sides = sorted(widths)
    for n, (before, after) in enumerate(itertools.pairwise(sides)):
        state |= styled(f"convs.{2 * n}", widths[before], widths[after])
        state[f"convs.{2 * n}.conv.blur.kernel"] = 4 * FILTER
        state |= styled(f"convs.{2 * n + 1}", widths[after], widths[after])
        state |= {f"to_rgbs.{n}.bias": 0.1 * normal(1, 3, 1, 1), **conv(f"to_rgbs.{n}", widths[after], 3, 1)}
        state[f"to_rgbs.{n}.upsample.kernel"] = 4 * FILTER
    for n in range(2 * len(sides) - 1):
        side = 4 * 2 ** ((n + 1) // 2)
        state[f"noises.noise_{n}"] = normal(1, 1, side, side)
    return state


class Module:
    """Stands for a module of NVIDIA's when it is pickled; `state` as torch's `__dict__` has it."""

    def __init__(self, name: str, parameters=(), buffers=(), children=(), **attributes: Any):
        self.name = name
        self.state = {
            "training": False,
            "_parameters": OrderedDict({k: torch.nn.Parameter(v) for k, v in dict(parameters).items()}),
            "_buffers": OrderedDict(buffers),
            "_non_persistent_buffers_set": set(),
            "_modules": OrderedDict(children),
            **attributes,
        }

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.name, "state": self.state}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


def nvidia(w_dim: int, widths: Mapping[int, int], layers: int = 8, *, noise: bool = True, **attributes: Any) -> Module:
    """NVIDIA's Generator. attributes: of the synthesis' layers, such as conv_clamp."""
    rng = torch.Generator().manual_seed(1)
    said = {"conv_clamp": None, "activation": "lrelu"} | attributes

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    def dense(inputs: int, outputs: int, rate: float, activation: str) -> Module:
        weights = {
            "weight": normal(outputs, inputs) / rate,
            "bias": normal(outputs) * 0.1 / rate + (activation == "linear"),
        }
        return Module("FullyConnectedLayer", weights, activation=activation, bias_gain=rate)

    def layer(inputs: int, outputs: int, side: int) -> Module:
        own = {"weight": normal(outputs, inputs, 3, 3), "bias": 0.1 * normal(outputs)}
        buffers = {"resample_filter": FILTER}
        if noise:
            own["noise_strength"] = 0.1 * normal(1)[0]
            buffers["noise_const"] = normal(side, side)
        return Module("SynthesisLayer", own, buffers, {"affine": dense(w_dim, inputs, 1, "linear")}, **said)

    def rgb(inputs: int) -> Module:
        own = {"weight": normal(3, inputs, 1, 1), "bias": 0.1 * normal(3)}
        clamp = {"conv_clamp": said["conv_clamp"]}
        return Module("ToRGBLayer", own, (), {"affine": dense(w_dim, inputs, 1, "linear")}, **clamp)

    blocks, before, skip = {}, 0, attributes.get("architecture", "skip")
    for side, width in sorted(widths.items()):
        children = {"conv0": layer(before, width, side)} if before else {}
        children |= {"conv1": layer(width, width, side), "torgb": rgb(width)}
        own = {} if before else {"const": normal(width, 4, 4)}
        blocks[f"b{side}"] = Module(
            "SynthesisBlock",
            own,
            {"resample_filter": FILTER},
            children,
            architecture=skip,
        )
        before = width
    mapping = {f"fc{n}": dense(w_dim, w_dim, 0.01, "lrelu") for n in range(layers)}
    return Module(
        "Generator",
        children={
            "synthesis": Module("SynthesisNetwork", children=blocks),
            "mapping": Module("MappingNetwork", (), {"w_avg": 0.1 * normal(w_dim)}, mapping),
        },
        **{"z_dim": w_dim, "c_dim": 0, "w_dim": w_dim, "img_resolution": max(widths), "img_channels": 3},
    )


@contextlib.contextmanager
def nvidias_modules() -> Iterator[None]:
    """What pickle looks up while it writes names of NVIDIA's."""
    held = types.ModuleType("torch_utils.persistence")

    def rebuild(meta):
        raise AssertionError("only its name is written")

    rebuild.__module__, rebuild.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"
    held._reconstruct_persistent_obj = rebuild  # type: ignore[attr-defined]
    sys.modules |= {"torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": held}
    try:
        yield
    finally:
        del sys.modules["torch_utils"], sys.modules["torch_utils.persistence"]


def save_nvidia(path: Path, network: Module, protocol: int = 4, **others: Any) -> Path:
    with nvidias_modules(), open(path, "wb") as file:
        pickle.dump({"G": None, "D": None, "G_ema": network, "augment_pipe": None, **others}, file, protocol)
    return path


def psp(
    layers: int, kind: str = "GradualStyleEncoder", *, decoder: Mapping[str, Tensor] | None = None, **options: Any
) -> dict:
    """A checkpoint of pSp or e4e, its encoder with PyTorch's own initial weights; decoder: a state of `rosinality`."""
    from svgan.images.psp_encoder import WIDTH, PSPEncoder

    torch.manual_seed(2)
    state = {
        f"encoder.{name}": value for name, value in PSPEncoder(layers).state_dict().items() if name != "latent_avg"
    }
    state |= {f"decoder.{name}": value for name, value in (decoder or {}).items()}
    said = {"encoder_type": kind, "start_from_latent_avg": True, "dataset_type": "ffhq_encode"} | options
    return {"state_dict": state, "latent_avg": torch.randn(WIDTH).expand(layers, -1).contiguous(), "opts": said}


def small_psp(monkeypatch) -> None:
    """For a fixture: encoders of few channels, and of codes of width 32; 267 million parameters are too many."""
    from svgan.images import psp_encoder

    monkeypatch.setattr(psp_encoder, "STAGES", ((16, 3), (16, 4), (16, 14), (32, 3)))
    monkeypatch.setattr(psp_encoder, "WIDTH", 32)
