"""The spaces that motion models work in: standardised W+, its principal axes, W, and a picture system's own.

A space maps W+ codes to coordinates and back (`encode`, `decode`). A checkpoint holds its `spec()` as JSON and its
`state_dict()` as tensors. Standardisation is ours: the paper does not state its own
(docs/papers.md#stylevideogan-data). So is the PCA space (docs/papers.md#first-measurements).

Axes: N frame, B clip, L W+ layer, D width of W, C component, K width of the space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svgan.errors import UserError
from svgan.latents.manifest import Latents

SpaceName = Literal["wplus", "pca", "w", "pictures"]
RELATIVE_FLOOR = 1e-3  # a coordinate that hardly moves is not blown up to unit variance
PICTURE_COMPONENTS = 16  # as many as the latent distance looks at


class Space(nn.Module):
    """Coordinates for W+ codes; holds buffers only.

    wplus: (w - mean) / std, K = L D: unit variance. pca: basis (w - mean) / scale, K = C. All axes have one scale, the
    first one's, so that distances are W+'s own, and a critic sees an axis at its true size. Whitening would let the
    many small and noisy axes drown the few that move the face (docs/choices.md).

    spread [K]: the standard deviation of each coordinate, with which a motion model's outputs start. `decode` inverts
    `encode`: exactly for wplus, up to the projection onto the axes for pca.
    """

    mean: Tensor
    scale: Tensor
    spread: Tensor
    basis: Tensor | None

    def __init__(self, name: SpaceName, layers: int, code_width: int, width: int):
        super().__init__()
        self.name, self.layers, self.code_width, self.width = name, layers, code_width, width
        self.register_buffer("mean", torch.zeros(layers * code_width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("basis", torch.zeros(width, layers * code_width) if name == "pca" else None)

    def encode(self, codes: Tensor) -> Tensor:
        """W+ codes [..., L, D] to coordinates [..., K]."""
        centred = codes.flatten(-2) - self.mean
        return (centred if self.basis is None else centred @ self.basis.T) / self.scale

    def decode(self, coordinates: Tensor) -> Tensor:
        """Coordinates [..., K] to W+ codes [..., L, D]."""
        centred = coordinates * self.scale
        flat = (centred if self.basis is None else centred @ self.basis) + self.mean
        return flat.unflatten(-1, (self.layers, self.code_width))

    def spec(self) -> dict:
        """The JSON that rebuilds the space, together with `state_dict()`."""
        return {"name": self.name, "layers": self.layers, "code_width": self.code_width, "width": self.width}


class MappingNetwork(nn.Module):
    """StyleGAN2's mapping network with its learning-rate multipliers multiplied in: z [B, D] to w [B, D], frozen."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layers: int, width: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(layers, width, width))
        self.register_buffer("bias", torch.zeros(layers, width))

    def forward(self, z: Tensor) -> Tensor:
        w = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for weight, bias in zip(self.weight, self.bias, strict=True):
            w = F.leaky_relu(F.linear(w, weight, bias), 0.2) * math.sqrt(2)
        return w


class WSpace(Space):
    """Coordinates [..., D] in the W space of a frozen generator, for codes that are equal in every layer.

    Coordinates are (w - mean) along orthonormal axes V, most variance first, divided by one number, the first axis's
    standard deviation. Distances are W's own.

    encode: the mean over layers of W+ codes; decode: the same w for all layers. axes V [D, D]: orthonormal rows. spread
    [D]: standard deviation of each coordinate over the generator's own subjects, falling from 1.
    """

    axes: Tensor

    def __init__(self, layers: int, code_width: int, mapping_layers: int):
        super().__init__("w", layers, code_width, code_width)
        self.register_buffer("axes", torch.eye(code_width))
        self.mapping = MappingNetwork(mapping_layers, code_width)

    def encode(self, codes: Tensor) -> Tensor:
        """W+ codes [..., L, D] to coordinates [..., D]."""
        return self.encode_w(codes.mean(-2))

    def encode_w(self, w: Tensor) -> Tensor:
        """W codes [..., D] to coordinates [..., D]."""
        return (w - self.mean[: self.code_width]) @ self.axes.T / self.scale

    def decode(self, coordinates: Tensor) -> Tensor:
        """Coordinates [..., D] to W+ codes [..., L, D]."""
        w = (coordinates * self.scale) @ self.axes + self.mean[: self.code_width]
        return w.unsqueeze(-2).expand(*w.shape[:-1], self.layers, self.code_width)

    def subjects(self, z: Tensor) -> Tensor:
        """Noise z [B, D] to coordinates [B, D] of the generator's own subjects."""
        return self.encode_w(self.mapping(z))

    def spec(self) -> dict:
        return {**super().spec(), "mapping_layers": len(self.mapping.weight)}


class PictureSpace(Space):
    """The space of a system that makes pictures by itself: a pca space of W+ codes, and the pictures' resolution.

    Nothing else can use such a system's own codes. Metrics of codes use those that the domain's encoder reads in its
    pictures (`svgan.sampling.sampler.Sampler.wplus`), in the footage's principal coordinates (ours).
    """

    def __init__(self, layers: int, code_width: int, width: int, resolution: int):
        super().__init__("pca", layers, code_width, width)
        self.name, self.resolution = "pictures", resolution

    def spec(self) -> dict:
        return {**super().spec(), "resolution": self.resolution}


def make_space(name: str, latents: Latents, components: int | None = None) -> Space:
    """The space `name` ('wplus' or 'pca') of a set of codes. Raises UserError for too many components."""
    layers, code_width = latents.codes.shape[1:]
    if name == "wplus":
        space = Space("wplus", layers, code_width, layers * code_width)
        scale, spread = floor_spread(latents.std), np.ones_like(latents.std)
    elif name == "pca":
        stored = len(latents.basis)
        count = stored if components is None else components
        if not 1 <= count <= stored:
            raise UserError(f"components: {count}, but these codes carry 1 to {stored} (see svgan embed --components)")
        space = Space("pca", layers, code_width, count)
        assert space.basis is not None
        space.basis.copy_(torch.from_numpy(latents.basis[:count]))
        spread = floor_spread(latents.scale[:count]) / max(float(latents.scale[0]), 1e-8)
        scale = np.full(count, max(float(latents.scale[0]), 1e-8), np.float32)
    else:
        raise UserError(f"space: {name!r} is unknown; one of wplus, pca")
    space.mean.copy_(torch.from_numpy(latents.mean))
    space.scale.copy_(torch.from_numpy(scale))
    space.spread.copy_(torch.from_numpy(spread))
    return space


def floor_spread(spread: np.ndarray) -> np.ndarray:
    """Standard deviations, none below a thousandth of the largest, nor below 1e-8."""
    return np.maximum(spread, max(float(spread.max()) * RELATIVE_FLOOR, 1e-8)).astype(np.float32)


def picture_space(latents: Latents, resolution: int) -> PictureSpace:
    """The PictureSpace of a set of codes."""
    layers, code_width = latents.codes.shape[1:]
    pca = make_space("pca", latents, min(PICTURE_COMPONENTS, len(latents.basis)))
    space = PictureSpace(layers, code_width, pca.width, resolution)
    space.load_state_dict(pca.state_dict())
    return space


def space_from_state(spec: Mapping, tensors: Mapping[str, Tensor]) -> Space:
    """The space that `spec()` and `state_dict()` describe."""
    if spec["name"] == "w":
        space: Space = WSpace(spec["layers"], spec["code_width"], spec["mapping_layers"])
    elif spec["name"] == "pictures":
        space = PictureSpace(spec["layers"], spec["code_width"], spec["width"], spec["resolution"])
    else:
        space = Space(spec["name"], spec["layers"], spec["code_width"], spec["width"])
    space.load_state_dict(dict(tensors))
    return space
