"""Mean, spread and principal axes of W+ codes, and the standardised spaces that motion models work in.

Axes: N frame, L W+ layer, D width of W, C component, K width of the space.
Standardisation is our choice (systems.md 1.2: the paper's is not known); the PCA space is performance.md's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from svgan.errors import UserError

if TYPE_CHECKING:
    from svgan.latents.shards import Latents

SpaceName = Literal["wplus", "pca", "w", "pictures"]
EXACT_LIMIT = 2048  # the side of the largest matrix that is diagonalised exactly
RELATIVE_FLOOR = 1e-3  # a coordinate that hardly moves is not blown up to unit variance


def principal_axes(x: np.ndarray, components: int, exact_limit: int = EXACT_LIMIT) -> tuple[np.ndarray, np.ndarray]:
    """Leading axes [C, P] (orthonormal rows) and standard deviations [C] of centred rows x [N, P], float32.

    C = min(components, N - 1, P). Up to `exact_limit` the smaller of covariance and Gram matrix is diagonalised in
    float64; beyond it, block power iteration with a fixed start (Halko et al. 2011) finds the leading axes.
    Signs are fixed so that each axis's largest entry is positive: the same codes give the same bits.
    """
    n, p = x.shape
    count = max(1, min(components, n - 1, p))
    data = torch.from_numpy(np.ascontiguousarray(x, np.float32))
    if p <= min(n, exact_limit):
        _, vectors = torch.linalg.eigh(data.T.double() @ data.double())
        axes = vectors.T.flip(0)[:count]
    elif n <= exact_limit:
        double = data.double()
        _, vectors = torch.linalg.eigh(double @ double.T)
        axes = vectors.T.flip(0)[:count] @ double
    else:
        axes = _power_iteration(data, count)
    axes = torch.linalg.qr(axes.double().T).Q.T
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = (axes * torch.where(largest < 0, -1.0, 1.0)).float()
    scale = (data @ axes.T).double().square().mean(0).sqrt()
    return axes.numpy(), scale.float().numpy()


def _power_iteration(data: Tensor, count: int, rounds: int = 12, extra: int = 32) -> Tensor:
    """Leading right singular vectors [count, P] of data [N, P] by subspace iteration."""
    width = min(count + extra, *data.shape)
    block = torch.randn(data.shape[1], width, generator=torch.Generator().manual_seed(0))
    for _ in range(rounds):
        block = torch.linalg.qr(data.T @ (data @ block)).Q
    _, _, right = torch.linalg.svd(data @ block, full_matrices=False)
    return (right @ block.T)[:count]


class Space(nn.Module):
    """Coordinates for W+ codes; holds buffers only.

    wplus: (w - mean) / std, K = L D: unit variance. pca: basis (w - mean) / scale, K = C, with one scale for all
    axes, the first one's: distances are W+'s own, and a critic sees an axis as large as it is. (Whitened, the many
    small and noisy axes drowned the few that move the face: docs/choices.md.) spread [K]: standard deviation of each
    coordinate, which a motion model's outputs start with. `decode` inverts `encode`: exactly for wplus, up to the
    projection onto the axes for pca.
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
        """What JSON must hold to rebuild the space; the tensors are `state_dict()`."""
        return {"name": self.name, "layers": self.layers, "code_width": self.code_width, "width": self.width}


def make_space(name: str, latents: Latents, components: int | None = None) -> Space:
    """The space `name` ('wplus' or 'pca') of a set of codes. Raises UserError for too many components."""
    layers, code_width = latents.codes.shape[1:]
    if name == "wplus":
        space = Space("wplus", layers, code_width, layers * code_width)
        scale, spread = floored(latents.std), np.ones_like(latents.std)
    elif name == "pca":
        stored = len(latents.basis)
        count = stored if components is None else components
        if not 1 <= count <= stored:
            raise UserError(f"components: {count}, but these codes carry 1 to {stored} (see svgan embed --components)")
        space = Space("pca", layers, code_width, count)
        assert space.basis is not None
        space.basis.copy_(torch.from_numpy(latents.basis[:count]))
        spread = floored(latents.scale[:count]) / max(float(latents.scale[0]), 1e-8)
        scale = np.full(count, max(float(latents.scale[0]), 1e-8), np.float32)
    else:
        raise UserError(f"space: {name!r} is unknown; one of wplus, pca")
    space.mean.copy_(torch.from_numpy(latents.mean))
    space.scale.copy_(torch.from_numpy(scale))
    space.spread.copy_(torch.from_numpy(spread))
    return space


def floored(spread: np.ndarray) -> np.ndarray:
    """Standard deviations, none below a thousandth of the largest (nor below 1e-8)."""
    return np.maximum(spread, max(float(spread.max()) * RELATIVE_FLOOR, 1e-8)).astype(np.float32)


def space_from_state(spec: Mapping, tensors: Mapping[str, Tensor]) -> Space:
    """The space that `spec()` and `state_dict()` describe."""
    if spec["name"] == "w":
        from svgan.latents.spaces import WSpace

        space: Space = WSpace(spec["layers"], spec["code_width"], spec["mapping_layers"])
    elif spec["name"] == "pictures":
        from svgan.latents.picture_space import PictureSpace

        space = PictureSpace(spec["layers"], spec["code_width"], spec["width"], spec["resolution"])
    else:
        space = Space(spec["name"], spec["layers"], spec["code_width"], spec["width"])
    space.load_state_dict(dict(tensors))
    return space
